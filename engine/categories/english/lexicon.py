"""English words and their readings: closed classes whole, open ones as far as common.

A reading is a part of speech as fine as the rules need it. Words of the closed classes are written
out with every reading; open classes are lists of base forms. Apostrophes are straight ones here.
"""

# Reading -> universal part of speech.
UNIVERSAL_OF = {
    "DT": "DET",  # the, a, this
    "WDT": "DET",  # which, what before a noun
    "PPS": "PRON",  # my, whose
    "PRS": "PRON",  # I, we, they: what comes next is a plain verb
    "PR3": "PRON",  # he, she, it: what comes next is a verb in -s
    "PRO": "PRON",  # me, them
    "PRD": "PRON",  # this, that alone
    "PRI": "PRON",  # something, everyone
    "WP": "PRON",  # who, which, relative that
    "EX": "PRON",  # there is
    "IN": "ADP",
    "SC": "SCONJ",
    "CC": "CCONJ",
    "TO": "PART",  # before an infinitive
    "NEG": "PART",  # not
    "POS": "PART",  # 's
    "MD": "AUX",
    "BE": "AUX",
    "BEB": "AUX",  # be
    "BEN": "AUX",  # been
    "HV": "AUX",  # have before a participle
    "DO": "AUX",  # do before another verb
    "EXB": "VERB",  # be after existential there
    "VB": "VERB",
    "VBZ": "VERB",
    "VBD": "VERB",
    "VBN": "VERB",
    "VBG": "VERB",
    "NN": "NOUN",
    "NNS": "NOUN",
    "NNP": "PROPN",
    "JJ": "ADJ",
    "RB": "ADV",
    "WRB": "ADV",  # when, how
    "CD": "NUM",
    "UH": "INTJ",
    "PU": "PUNCT",  # comma, dash, colon
    "PE": "PUNCT",  # ends a sentence
    "PQ": "PUNCT",  # quotes, brackets, hyphens: what is around them goes on
    "SYM": "SYM",
    "X": "X",
}

# Words with one reading.
CLOSED = {
    "DT": "the a an every another all both some any each either neither no half",
    "PPS": "my your its our their his whose thy",
    "PRS": "i we they ye y' ya thou 'y",
    "PR3": "he she",
    "PRO": """
        me him them us 'em 'im thee myself yourself himself herself itself ourselves yourselves
        themselves themself oneself mine yours hers ours theirs thine whom thyself ourself
        theirself youse""",
    "PRI": """
        something anything nothing everything someone anyone everyone somebody anybody nobody
        everybody none naught whoever whomever whatever whosoever whoso aught nought""",
    "WP": "who",
    "IN": """
        of in on at by for from with into onto upon within without through throughout during
        against among amongst between betwixt beneath underneath beside besides beyond below
        behind above across along alongside amid amidst around toward towards under over about off
        up down out near per via despite except unlike versus vs vs. plus minus aboard atop
        barring circa notwithstanding pending past qua sans than thru till unto aside pro athwart
        apropos mid midst outwith v v. v.s. w/ w/o cum 'bout 'pon o' tween vis-à-vis""",
    "SC": """
        if whether because although unless whereas whilst lest albeit 'cause cuz cos whereby while
        though 'cos 'coz 'cuz coz inasmuch insofar wherefore""",
    "CC": "and or but nor & yet 'n' n' and/or",
    "NEG": "not n't nt",
    "MD": """
        can could will would shall should may might must ought ca wo sha 'll mus cannot mayst
        canst wouldst shouldst shalt wilt ll""",
    "BE": "is are was were 'm 're ai art wert wast re tis twas",
    "BEB": "be",
    "BEN": "been being",
    "HV": "'ve hath hast ve",
    "DO": "doth dost",
    "WRB": "when where why how whenever wherever however wherein whereupon",
    "CD": """
        zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
        sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
        hundred thousand million billion trillion nil quadrillion zillion""",
    "UH": """
        oh ah yes yeah yep nope hey hello hi hm hmm hmmm huh ouch oops ugh uh um wow alas goodbye
        bye okay ok please thanks aha ha haha hooray hurrah eh er erm shh psst phew yikes whoa
        gosh sorry amen bravo farewell damn lol yay bah meh tsk whew boo ew eek aw aww whoops
        hurray howdy cheers congrats duh jeez nah oy voilà yo""",
    "RB": """
                 very too also just only even again already almost always never often sometimes
        usually         soon now then here away together perhaps maybe quite rather really instead
        ever further         furthermore moreover therefore thus hence otherwise nevertheless
        nonetheless meanwhile         somehow somewhere anywhere everywhere nowhere twice thrice
        ahead abroad apart forward         forwards backward backwards upward upwards downward
        downwards inward outward indoors         outdoors upstairs downstairs overnight nowadays
        afterwards afterward beforehand altogether         anyway anyhow elsewhere forth hither
        thither ago aloud alike asleep seldom so likewise         indeed merely barely hardly
        scarcely mostly nearly partly roughly mainly namely simply         especially particularly
        probably possibly certainly apparently actually eventually finally         o'clock i.e.
        e.g. etc etc. sideways straightaway thereby therein thereafter whatsoever         somewhat
        downhill uphill offshore onwards onward forever""",
    "JJ": """
        other same own such many several various certain else able unable next few former latter
        aforementioned fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
        fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth
        fortieth fiftieth hundredth thousandth millionth ol' 'nuff""",
    "NN": "today tomorrow yesterday tonight a.m. p.m. pm ma'am",
    "NNP": """
                 january february april june july august september october november december
        monday tuesday         wednesday thursday friday saturday sunday mr mr. mrs mrs. ms ms. dr
        dr. prof prof. st.         christmas easter""",
    "X": "et al. al ibid. inter alia",
}

# Words with several readings, likeliest first.
AMBIGUOUS = """
    that SC WP DT PRD; this DT PRD; these DT PRD; those DT PRD; which WP WDT; what WP WDT
    it PR3 PRO; you PRS PRO; her PPS PRO; there RB EX; one CD PRI NN; ones NNS; to TO IN
    whichever WDT WP; 's POS BE HV PRO; ' POS PQ; 'd MD HV; na TO; ta TO; gon VBG; have HV VB
    has HV VBZ; had HV VBD VBN; having HV VBG; do DO VB; does DO VBZ; did DO VBD; done VBN JJ
    doing VBG; as IN SC RB; since IN SC; before IN SC RB; after IN SC; until IN SC; like IN VB
    once RB SC; inside IN NN RB; outside IN RB NN; opposite IN JJ NN; worth JJ IN; save VB IN
    given VBN IN; including VBG; following VBG JJ; considering VBG; medium JJ NN; welcome JJ VB
    well RB UH NN; more JJ RB; most JJ RB; less JJ RB; least JJ RB; much JJ RB; enough JJ RB
    little JJ RB; lot NN; right JJ NN RB UH; back RB NN VB JJ; still RB JJ; long JJ RB; hard JJ RB
    fast JJ RB; early JJ RB; late JJ RB; later RB JJ; first JJ RB; last JJ VB; second JJ NN
    low JJ RB; high JJ RB; near IN JJ; close VB JJ RB; far RB JJ; deep JJ RB; straight JJ RB
    daily JJ RB; weekly JJ RB; monthly JJ RB; only RB JJ; even RB JJ; just RB; pretty RB JJ
    yet RB CC; home NN RB; alone JJ RB; better JJ RB; best JJ RB NN; worse JJ RB; worst JJ
    earlier RB JJ; longer RB JJ; faster JJ RB; sooner RB; let VB VBN; used VBD VBN; need VB NN
    dare VB; will MD NN; can MD NN; may MD; might MD NN; over IN RB; around IN RB; across IN RB
    along IN RB; round JJ NN IN; through IN RB; by IN RB; past JJ NN IN; off IN RB; about IN RB
    above IN RB; below IN RB; behind IN RB; beyond IN RB; no DT UH; half DT NN; double JJ VB
    quarter NN; dozen NN; why WRB UH; hell NN; god NN; dear JJ UH; saw VBD NN; left VBD VBN JJ
    felt VBD VBN; found VBD VBN; lay VBD VB; born VBN; lead VB NN; read VB VBD; thought VBD NN VBN
    rose VBD NN; fell VBD; wound NN VBD; bore VBD; means VBZ NN; spoke VBD; set VB VBN NN
    put VB VBD; cut VB NN VBN; hit VB VBD NN; cost VB NN VBD; hurt VB VBD; shut VB VBD
    spread VB NN VBN; own JJ VB; kind NN JJ; present JJ NN VB; open JJ VB; clean JJ VB; dry JJ VB
    slow JJ VB; warm JJ VB; cool JJ VB; clear JJ VB; empty JJ VB; free JJ VB; complete JJ VB
    separate JJ VB; live VB JJ; lower JJ VB; narrow JJ VB; correct JJ VB; direct JJ VB; exact JJ
    secure JJ VB; quiet JJ; light NN JJ VB; human JJ NN; public JJ NN; individual JJ NN
    white JJ NN; black JJ NN; red JJ; green JJ NN; blue JJ NN; cold JJ NN; dark JJ NN; fine JJ RB
    firm NN JJ; flat JJ NN; key NN JJ; main JJ; mean VB JJ; minute NN; novel NN JJ; official JJ NN
    original JJ NN; patient NN JJ; square NN JJ; subject NN JJ; total JJ NN; upper JJ; whole JJ NN
    wrong JJ RB NN; young JJ; old JJ; general JJ NN; local JJ; final JJ; chief JJ NN
    material NN JJ; plain JJ NN; native JJ; ill JJ; sound NN VB JJ; short JJ; equal JJ VB
    return NN VB; evening NN; morning NN; building NN VBG; meeting NN VBG; feeling NN VBG
    meaning NN; being BEN NN; during IN; wedding NN; painting NN VBG; ceiling NN; string NN
    spring NN; king NN; ring NN VB; wing NN; training NN VBG; beginning NN VBG; engineering NN
    learning NN VBG; reading NN VBG; writing NN VBG; interesting JJ; amazing JJ; exciting JJ
    surprising JJ; boring JJ; willing JJ; missing JJ VBG; tired JJ; hundred CD; indeed RB
    speed NN; seed NN; feed VB NN; bed NN; sacred JJ; naked JJ; wicked JJ; aged JJ; advanced JJ
    limited JJ VBN; married JJ VBN; interested JJ; worried JJ VBD; excited JJ; embarrassed JJ
    unexpected JJ; unknown JJ; so-called JJ; supposed VBN; family NN; reply NN VB; supply NN VB
    apply VB; rely VB; friendly JJ; lovely JJ; lonely JJ; likely JJ RB; unlikely JJ; ugly JJ
    silly JJ; deadly JJ; elderly JJ; holy JJ; july NNP; fly VB NN; italy NNP; assembly NN
    anomaly NN; belly NN; ally NN; timely JJ; costly JJ; orderly JJ; lively JJ; news NN
    politics NN; physics NN; mathematics NN; economics NN; series NN; species NN; process NN VB
    business NN; class NN; glass NN; grass NN; loss NN; mass NN; pass VB NN; press NN VB
    success NN; access NN VB; address NN VB; bus NN; gas NN; status NN; virus NN; basis NN
    analysis NN; crisis NN; cross VB NN; dress NN VB; guess VB NN; kiss VB NN; miss VB
    stress NN VB; princess NN; witness NN VB; always RB; perhaps RB; plus IN; focus NN VB
    bonus NN; campus NN; chaos NN; corpus NN; census NN; lens NN; axis NN; thesis NN; canvas NN
    unless SC; yes UH; his PPS; us PRO; thus RB; hers PRO; besides IN RB; towards IN; people NNS
    men NNS; women NNS; children NNS; feet NNS; teeth NNS; mice NNS; geese NNS; police NN; data NN
    lives NNS VBZ; leaves NNS VBZ; wives NNS; knives NNS; shelves NNS; wolves NNS; halves NNS
    criteria NNS; indices NNS; matrices NNS; vertices NNS; phenomena NNS; bacteria NNS; media NN
    fish NN; sheep NN; deer NN; cattle NN; clothes NNS; thanks NN UH; english JJ NNP
    french JJ NNP; german JJ NNP; american JJ NNP; british JJ NNP; european JJ NNP; roman JJ NNP
    greek JJ NNP; chinese JJ NNP; japanese JJ NNP; italian JJ NNP; spanish JJ NNP; russian JJ NNP
    latin JJ NNP; indian JJ NNP; dutch JJ NNP; swiss JJ; irish JJ; scottish JJ; welsh JJ
    african JJ; asian JJ; arabic JJ NNP; jewish JJ; christian JJ NNP; am BE NN; m NN BE; s NN BE
    d NN MD; y NN PRS; c'm VB; third JJ NN
"""

# Irregular verbs: base, past, participle.
IRREGULAR = """
    arise arose arisen; awake awoke awoken; bear bore borne; beat beat beaten
    become became become; begin began begun; bend bent bent; bet bet bet; bind bound bound
    bite bit bitten; bleed bled bled; blow blew blown; break broke broken; breed bred bred
    bring brought brought; build built built; burst burst burst; buy bought bought; cast cast cast
    catch caught caught; choose chose chosen; cling clung clung; come came come; creep crept crept
    deal dealt dealt; dig dug dug; draw drew drawn; dream dreamt dreamt; drink drank drunk
    drive drove driven; eat ate eaten; fall fell fallen; feed fed fed; feel felt felt
    fight fought fought; find found found; flee fled fled; fling flung flung; fly flew flown
    forbid forbade forbidden; forget forgot forgotten; forgive forgave forgiven
    freeze froze frozen; get got gotten; give gave given; go went gone; grind ground ground
    grow grew grown; hang hung hung; hear heard heard; hide hid hidden; hold held held
    keep kept kept; kneel knelt knelt; know knew known; lay laid laid; lead led led
    lean leant leant; leap leapt leapt; learn learnt learnt; leave left left; lend lent lent
    lie lay lain; light lit lit; lose lost lost; make made made; mean meant meant; meet met met
    overcome overcame overcome; pay paid paid; prove proved proven; quit quit quit
    ride rode ridden; ring rang rung; rise rose risen; run ran run; say said said; see saw seen
    seek sought sought; sell sold sold; send sent sent; shake shook shaken; shed shed shed
    shine shone shone; shoot shot shot; show showed shown; shrink shrank shrunk; sing sang sung
    sink sank sunk; sit sat sat; sleep slept slept; slide slid slid; smell smelt smelt
    sow sowed sown; speak spoke spoken; spend spent spent; spill spilt spilt; spin spun spun
    split split split; spring sprang sprung; stand stood stood; steal stole stolen
    stick stuck stuck; sting stung stung; strike struck struck; strive strove striven
    swear swore sworn; sweep swept swept; swell swelled swollen; swim swam swum; swing swung swung
    take took taken; teach taught taught; tear tore torn; tell told told; think thought thought
    throw threw thrown; thrust thrust thrust; understand understood understood
    undergo underwent undergone; wake woke woken; wear wore worn; weave wove woven; weep wept wept
    win won won; wind wound wound; withdraw withdrew withdrawn; write wrote written
    rewrite rewrote rewritten; rebuild rebuilt rebuilt; overwrite overwrote overwritten
"""

# Regular verbs; * doubles the last letter.
VERBS = """
    accept achieve act add admit* adopt affect agree aim allow announce answer appear apply
    approach argue arrange arrive ask assume attach attack attempt attend avoid base beg* behave
    believe belong blame boil borrow bother breathe brush burn call cancel care carry cause change
    charge chat* check claim climb close collect combine comment compare compile complain compute
    concern confirm connect consider consist contain continue contribute control* convert convince
    cook copy cough count cover crash create cross cry damage dance decide declare decline
    decrease define delay delete deliver demand deny depend describe design destroy detect
    determine develop die differ disagree disappear discover discuss divide doubt drag* dress
    drift drop* earn edit employ enable encourage end enjoy ensure enter escape establish estimate
    examine exist expand expect explain explore export express extend extract face fail fear fetch
    fill finish fit* fix float flow fold follow force form frown function gather generate glance
    govern grab* grant greet grip* guard guide handle happen hate heat help hesitate hire hope
    hunt hurry identify ignore imagine implement imply import improve include increase indicate
    influence inform insert insist install intend introduce invent invest invite involve join joke
    judge jump justify kick kill knock label lack land last laugh launch lift limit link list
    listen load lock look love maintain manage mark match matter measure melt mention merge mind
    mix model modify mount move murmur name nod* note notice object obey observe obtain occur*
    offer open operate oppose order organise organize own pack paint park pass pause perform
    permit* persuade phone pick place plan* plant play point pour praise prefer* prepare present
    preserve press pretend prevent print proceed process produce promise propose protect provide
    publish pull push raise reach realise realize receive recognise recognize recommend record
    recover reduce refer* reflect refuse regard reject relate release remain remember remind
    remove repair repeat replace reply report represent request require rescue reset resist
    resolve respond rest restart restore result return reveal review roll rub* ruin rule rush sail
    save scan* scream search seem select separate serve settle shape share shift ship* shout sign
    skip* slip* smile smoke sneeze snow solve sort sound spell stare start state stay step* stop*
    store stretch study submit* succeed suffer suggest suit supply support suppose surprise
    surround survive suspect switch talk taste tend test thank tie touch trace track train
    transfer* transform translate travel treat trust try turn type update use vanish vary visit
    vote wait walk wander want warm warn wash waste watch wave weigh whisper wish wonder work
    worry wrap* yield accompany acquire adapt adjust afford analyse analyze apologise appreciate
    arrest assign assist attract bounce bow broadcast bury calculate capture celebrate cease chase
    cite clap* compete compose conclude conduct confuse consume convey cope correspond criticise
    debate delight demonstrate deploy derive deserve detach devote dismiss display distinguish
    distribute dominate download eliminate emerge emphasise evaluate evolve exceed exchange
    exclude execute experience exploit fade file filter flash flood focus found gain grasp
    guarantee harm highlight host illustrate inherit initialise calm inspect inspire integrate
    interact interpret interrupt investigate invoke issue lean learn log* lower monitor motivate
    negotiate occupy overlap* parse perceive persist plead plot* possess preach predict promote
    pump purchase pursue query quote rank react rely remark render rent resemble resign retain
    retire retrieve retry reverse reward satisfy scatter schedule score seize simplify simulate
    specify stir* stream strengthen struggle sum* swallow tackle target tap* threaten tighten toss
    transmit* trap* trigger undo unlock upgrade upload validate verify wipe witness
"""

# Nouns; many are verbs too, which the context decides.
NOUNS = """
    ability access accident account act action activity address advantage advice age agency agent
    agreement air airport algorithm amount analysis anger animal answer apartment apple area
    argument arm army arrival art article artist aspect atom attack attempt attention attitude
    audience aunt author authority autumn average baby bag ball band bank bar barn base basket
    bath battle beach bed bedroom behaviour bell benefit bicycle bill bird birth bit block blood
    board boat body bone book boot border bottle bottom bowl box boy branch brass bread breakfast
    breath bridge brother bucket budget bug bulb butter button cabin cake call camera camp
    campaign cancer candidate capacity capital captain car card care career case castle cat
    category cause cell cent centre center century chain chair chance change channel chapter
    character charge check cheese chest chicken child choice church cigarette circle citizen city
    claim classroom climate clock cloth cloud club coach coal coast coat code coffee coin
    collection college colour color column command comment committee community company comparison
    competition computer concept concern condition conference confidence configuration conflict
    connection contact content context contract control conversation copy corn corner corridor
    cottage council country county couple course court cousin cow cream crime crowd cry culture
    cup curtain customer cycle damage danger darkness date daughter day deal death debate debt
    decade decision default degree demand department depth desert design desk detail device
    difference difficulty dinner direction director disc discovery discussion disease disk
    distance district doctor document dog door doubt draft drawer dream drink driver drop dust
    duty ear earth edge editor education effect effort egg election electricity element emergency
    emotion emperor empire employee end enemy energy engine engineer entry environment error event
    evidence example exception exchange exercise expense experience experiment expert explanation
    expression extent eye face fact factor factory failure fall farm farmer father fault favour
    fear feature fence festival fever field fight figure file film finger fire flag flame flight
    floor flour flower folder food foot football force forest form format fortune frame freedom
    friend fruit fuel fun function fund funeral furniture future gain game garden gate gift girl
    glance goal gold goods government governor grain grammar grandfather grandmother gravity
    ground group growth guard guest guide gun guy habit hair hall hammer hand handle harbour hat
    head health heart heat height help hill history hole holiday hope horse hospital hotel hour
    house husband ice idea image impact importance inch income increase index industry influence
    information input insect instance institution instruction instrument insurance interest
    interface internet interval interview iron island issue item jacket job joint joke journey
    judge juice kettle kid kilometre king kitchen knee knife knock knowledge label lack lady lake
    lamp land lane language laugh law lawyer layer leader leaf leather leg length lesson letter
    level library life limit line link lip list literature load loan location lock log look lord
    love lunch machine magazine mail majority man management manager manner manual map mark market
    marriage master match matrix matter maximum mayor meal measure meat medicine member memory
    message metal method metre middle midnight mile milk mind mine minister minority minute mirror
    mistake mixture mode model module moment money month moon mother motion mountain mouse mouth
    movement mud muscle museum music name nation nature neck neighbour nephew nerve network night
    node noise noon north nose note nothing notice number nurse object ocean offer office officer
    oil onion operation opinion option orange order organ organisation organization origin output
    oven owner oxygen package page pain paint pair palace paper paragraph parameter parent park
    parliament part particle partner party passage passenger path pattern payment peace pen pencil
    pension percent percentage performance period permission person phase phone photograph phrase
    piano picture piece pilot pipe pipeline place plan plane planet plant plate platform play
    player pleasure plot pocket poem poet poetry point policy population port position possibility
    post potato pound power practice presence president pressure price priest principle prison
    prize problem procedure product production profession professor profit program programme
    progress project promise property proportion protein purpose quality quantity queen query
    question queue radio rail railway rain range rate ratio reader reality reason record reference
    region register relation relationship release religion repair report request research resident
    resource response responsibility rest restaurant result revenue review rice risk river road
    rock role roof room root rope route row rule run salt sample sand scale scene schedule school
    science scientist score screen script sea search season seat secret section security selection
    sense sentence sequence server service session set shadow shape share shelf shell ship shirt
    shoe shop shore shoulder shout shower side sign signal silence silver sister site situation
    size skill skin sky sleep smell smile smoke snow society software soil soldier solution son
    song sort soul soup source south space speaker speech speed spirit spoon sport stage stair
    stairs standard star start state statement station statue step stick stomach stone store storm
    story strategy stream street strength structure student study style sugar suggestion suit
    summer sun surface surprise survey sword symbol system table talk tank target task taste tax
    tea teacher team technique technology telephone television temperature term test text theatre
    theory thing thread threat throat ticket tide tie time tip title toast tobacco token tone
    tongue tool tooth top topic touch tour tower town track trade tradition traffic train
    treatment tree trial trick trip trouble truck trust truth tube turn type umbrella uncle union
    unit university update use user valley value variable variation variety vector vehicle version
    victim video view village visit visitor voice volume vote wage wait walk wall war water wave
    way weakness wealth weapon weather week weekend weight west wheat wheel wife wind window wine
    winter wire wish woman wood wool word work worker world worry worth yard year youth zone beam
    bench blanket brick broth cable cart copper crew dawn deck feather flock fog forecast fork
    frost glove grave harvest herd hut jar kiln ladder lantern lens lighthouse loaf mill nail
    needle nest orchard peak pond porch sailor seed shed sheet sigh spark stove swarm thumb trench
    whistle width workshop yesterday buffer byte cache client database directory kernel loop pixel
    pointer process processor socket stack string vertex
"""

ADJECTIVES = """
    able academic active actual additional afraid alive ancient angry annual available average
    aware awful bad basic beautiful big bitter blind brave brief bright brilliant broad broken
    brown busy calm capable careful central cheap civil clever common comfortable commercial
    complex confident conscious constant convenient crazy critical cruel crucial cultural curious
    current dangerous dead deaf decent deep delicate dense different difficult digital dirty
    distant distinct dull eager east eastern easy economic effective efficient elderly electric
    electronic elegant empty enormous entire environmental essential evident excellent expensive
    explicit external extra extreme fair faint familiar famous fat federal few fierce financial
    foreign formal fresh full funny future generous gentle genuine global glad golden good
    gorgeous gradual grand grateful great grey gray guilty handsome happy harsh healthy heavy
    helpful historic honest hot huge hungry ideal identical illegal immediate important impossible
    independent industrial inner innocent intense internal international invisible joint keen
    large lazy legal level linear little loose loud loyal lucky mad major massive maximum medical
    medieval mental mere mild military minimum minor modern modest moral multiple musical mutual
    nasty national natural neat necessary negative nervous neutral new nice noble noisy normal
    northern nuclear numerous obvious odd ordinary overall pale parallel particular perfect
    permanent personal physical pink plastic pleasant polite political poor popular positive
    possible potential powerful practical precious precise pregnant previous primary prime private
    proper proud pure purple quick random rapid rare raw ready real reasonable recent regular
    relative relevant reliable religious remote responsible rich rigid rough royal rude rural sad
    safe scientific senior sensible sensitive serious severe sharp shallow shy sick significant
    silent similar simple single slight slim small smart smooth social soft solid sorry southern
    special specific spiritual stable stiff strange strict strong stupid subsequent successful
    sudden sufficient suitable super sure sweet swift tall technical temporary tender terrible
    thick thin tight tiny tough traditional tropical true typical unique universal urban urgent
    useful usual vague valid valuable vast violent virtual visible visual vital vivid weak wealthy
    weird western wet wide wild wise wooden wonderful yellow absolute abstract accurate adequate
    adjacent aggressive ambitious anonymous bare binary blank bold casual chemical classic coarse
    crisp damp default fixed fragile frequent hollow humble humid idle inland local lonely mature
    moist muddy obsolete optional plain rusty scarce shiny sleepy steady steep stubborn subtle
    tame thirsty uneven upset warm weary
"""

ADVERBS = """
    back down aboard accordingly aside badly consequently easily exactly fairly fully generally
    gradually greatly heavily highly immediately largely lately mentally newly normally nowadays
    obviously originally perfectly precisely presumably previously primarily properly quickly
    quietly rarely readily recently relatively respectively seriously shortly significantly
    similarly slightly slowly softly specifically still strongly suddenly surely typically
    ultimately unfortunately virtually widely
"""
