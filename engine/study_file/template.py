"""What `seedconv init` writes: a study file with everything explained."""

TEMPLATE = """\
# A seedconv study. Paths are relative to this file. Check and start it with
#   seedconv run STUDY.toml       score and reduce what is there, then exit
#   seedconv watch STUDY.toml     go on as checkpoints arrive
#   seedconv tui study.zarr       look at it, also while it runs

[study]
name = "my-study"
store = "study.zarr"              # made on the first run
# learning_rate = "schedule.csv"  # shown by `seedconv report`: columns step,learning_rate[,model]

[corpus]                          # the fixed text that every checkpoint is scored on
files = ["text/*.txt"]            # UTF-8; patterns allowed; of *.jsonl each line's field "text"
separator = ""                    # text between documents; "" makes each text file one document
max_tokens = 5000                 # leave out to use everything
# counts = "counts.npy"           # how frequent tokens are: id -> count, or a list of text files
                                  # to count in; "corpus", which is too small to tell, if left out

[tokenizer]                       # all checkpoints of a study share it
source = "runs/tokenizer"         # a folder, or a name on the Hugging Face hub
# revision = "main"
# bos = "auto"                    # "auto", "none" or a token: what stands before the first token

[[models]]                        # one block per model (architecture and size)
name = "my-model"
source = "runs/{model}/seed{seed}/checkpoint-{step}"   # folders with config.json and safetensors
# source = "EleutherAI/{model}-seed{seed}@step{step}"  # owner/name@revision: on the hub, as is all
                                  # that starts with hf://; a folder with @ in it starts with ./
# source = "polypythias"          # a published suite; docs/sources.md lists them
seeds = "discover"                # or a list: [1, 2, 3]
steps = "discover"                # or a list: [0, 100, 1000]
# cache = "drop"                  # delete each download once it is scored; "keep" if left out
# allow_pickle = true             # also load pytorch_model.bin, tensors only
# trust_remote_code = true        # run Python code that comes with the checkpoints

[scoring]
prediction = "causal"             # of the next token; for masked models "visible": of each token
                                  # with all of the text shown, or "pseudo": with the token itself
                                  # masked, which takes a forward pass of a window for every token
windowing = "stream"              # or "document": each document on its own
window = 2048                     # tokens the model sees at once, at most
overlap = 1024                    # of which so many are context seen before
dtype = "float32"                 # or "bfloat16", "float16": faster on a GPU, less exact
device = "auto"                   # "cpu", "cuda:1" or several: "cuda:0,cuda:1", "cpu,cpu"
batch_tokens = 8192               # positions per forward pass
# memory_gb = 20                  # of the device for models that are scored side by side; those
                                  # that do not fit are moved there in turn

[log_probs]
representation = "dense"          # float16 log-probs of the whole vocabulary, per checkpoint;
                                  # "factored": hidden states and output embedding, exact and
                                  # mostly far smaller; "none": reduced while scoring, all seeds
                                  # of a step in memory at once, nothing kept
retention = "all"                 # or "until_reduced": drop them once a step is reduced
# budget_gb = 100                 # refuse to start when log-probs would take more than this

[categories]                      # kinds of tokens that are told apart
# include = ["frequency", "pos", "word_class", "surprisal", "word_position", "position", "document"]
context = true                    # also by the token before, where that makes sense
tagger = "auto"                   # parts of speech: en_core_web_sm if there, else "rules" (English,
                                  # ours); or the name or folder of a spaCy pipeline
surprisal_step = "latest"         # that all seeds have reached, or a step

# [[categories.custom]]           # as many as you like
# name = "digits"
# pattern = "[0-9]"               # a regular expression, searched in the text of each token; or
# labels = "labels.txt"           # a file: a label for each token of the corpus, one a line, or
                                  # lines of token id, tab, label

# [[probes]]                      # what is asked beside the corpus: docs/probes.md
# name = "blimp"
# kind = "blimp"                  # minimal pairs: which sentence is more probable
# folder = "blimp/data"           # of BLiMP's JSON lines; download it first
# per_task = 100                  # pairs of each task; all if left out

# [[probes]]
# name = "icl"
# kind = "icl"                    # in-context learning: what a model gains from context
# files = ["long/*.txt"]          # long documents; patterns allowed
# separator = ""                  # text between documents; "" makes each file one document
# documents = 500                 # at most
# positions = [50, 500]           # loss at the later token less loss at the earlier one
# contexts = [50, 400]            # loss of one token with the longer context less with the shorter

# [limits]                        # beside training on the same machine: docs/watching.md
# nice = 10                       # CPU priority, 19 the least; the disk's follows it
# threads = 4                     # that compute at once, all processes of the engine together
# memory_gb = 16                  # of this machine: batches are chosen to fit, and what cannot is
                                  # refused
# gpu_memory_gb = 10              # of each GPU
# gpu_below = 50                  # score only while others use less of a GPU's time, in percent
# cpu_below = 50                  # the same of all cores together

# [watch]                         # docs/watching.md tells it as a story
# order = "newest"                # which step `watch` takes first; or "oldest", as `run` does
# settle_seconds = 3              # how long a folder without trainer_state.json must rest; on NFS
                                  # longer than its attributes are cached, such as 60
# poll_seconds = 2                # between two looks into the folders
# hub_poll_seconds = 300          # between two looks at the hub
# announcements = "announced"     # where training scripts announce checkpoints; if left out, a
                                  # folder beside the store: study-announced

# [notify]                        # told when something happens; docs/watching.md has examples
# command = "./tell.sh"           # a program, which gets JSON on stdin; no shell reads this
# url = "https://hooks.example.org/..."   # gets a POST of JSON with a field "text", or
# format = "text"                 # of the text alone
# on = ["phase", "outlier", "failure", "end"]

# [scalars]                       # also show expected KL, KL by level and phase
# tensorboard = "runs/tensorboard"  # in event files in this folder,
# wandb = "my-project"            # in a project of Weights & Biases,
# trackio = "my-project"          # or of trackio
# categories = ["frequency", "pos", "word_class", "surprisal"]
"""
