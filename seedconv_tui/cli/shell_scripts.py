"""Scripts for shells that complete what a parser takes: commands, options, choices, files, names.

The commands are written into them. Only names of models and categories are asked for when a key is
pressed: `seedconv completion --names KIND WORD...` prints those of the stores among the words.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

_KINDS = {
    "store": "store",
    "model": "models",
    "models": "models",
    "category": "categories",
    "categories": "categories",
}
"""Argument, as `argparse` stores it -> what it names; a path is a file, all else is unknown."""

_FILE = "file"
_INDENT = "\n" + 12 * " "


@dataclass(frozen=True)
class Argument:
    """An option with its flags, or something that is named by its place."""

    flags: tuple[str, ...]
    help: str
    values: int  # that it takes
    kind: str = ""  # of them: "file", "store", "models", "categories"; empty: see `choices`
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommandLine:
    """A command and what it takes."""

    name: str
    help: str
    options: tuple[Argument, ...]
    place: Argument  # what is named by its place


def commands_of(parser: argparse.ArgumentParser) -> list[CommandLine]:
    """Return the commands of a parser, in its order."""
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in found._choices_actions}
    return [_command(name, helps[name], made) for name, made in found.choices.items()]


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> CommandLine:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    made = [_argument(action, parser) for action in shown]
    places = [each for each in made if not each.flags]
    place = places[0] if places else Argument((), "", 0)
    return CommandLine(name, text, tuple(each for each in made if each.flags), place)


def _argument(action: argparse.Action, parser: argparse.ArgumentParser) -> Argument:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    values = action.nargs if isinstance(action.nargs, int) else 1
    choices = tuple(map(str, action.choices or ()))
    kind = _KINDS.get(action.dest, _FILE if action.type is Path else "")
    return Argument(tuple(action.option_strings), text, values, "" if choices else kind, choices)


# -- bash ------------------------------------------------------------------------------------------

_BASH = r"""# Completion of seedconv for bash 4.4 and later, made by `seedconv completion bash`.
_seedconv() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} first=
    ((COMP_CWORD > 1)) && first=${{COMP_WORDS[COMP_CWORD-2]}}
    if [[ $current == "=" ]]; then current=
    elif [[ $before == "=" ]]; then before=$first first=
    fi
    local command=${{COMP_WORDS[1]}} options= kind= words= name typed=$current
    COMPREPLY=()
    typed=${{typed#[\"\']}}
    typed=${{typed//\\/}}
    if ((COMP_CWORD == 1)); then
        words={commands} options='--help --version' kind=command
    else
        case $command in
            {of_commands}
            *) command=tui options={tui} kind=store ;;
        esac
        case "$command $before" in
            {of_options}
        esac
        case "$command $first" in
            {of_pairs}
            *) ;;
        esac
    fi
    if [[ $current == -* && -n $options ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
        return
    fi
    case $kind in
        store) compopt -o dirnames ;;
        file) compopt -o default ;;
        models | categories)
            while IFS= read -r name; do
                [[ $name == "$typed"* ]] || continue
                case $current in
                    \'*) name=${{name//\'/\'\\\'\'}} ;;
                    \"*) name=$(printf %s "$name" | command sed 's/["$`\]/\\&/g') ;;
                    *) printf -v name %q "$name" ;;
                esac
                COMPREPLY+=("$name")
            done < <(command seedconv completion --names "$kind" "${{COMP_WORDS[@]:1}}" 2>/dev/null)
            ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
            if [[ $kind == command ]]; then compopt -o dirnames; fi
            ;;
    esac
}}
complete -F _seedconv seedconv
"""


def bash(commands: Sequence[CommandLine]) -> str:
    """Return the script for bash."""
    of_commands = []
    alone: dict[str, list[str]] = {}  # what may follow an option -> command and option
    pairs: dict[str, list[str]] = {}
    for each in commands:
        flags = quote(" ".join(_flags(each)))
        of_commands.append(f"{each.name}) options={flags} {_bash_value(each.place)} ;;")
        for option in each.options:
            patterns = [quote(f"{each.name} {flag}") for flag in option.flags]
            for found in (alone, pairs)[: option.values]:
                found.setdefault(_bash_value(option), []).extend(patterns)
    tui = next((each for each in commands if each.name == "tui"), None)
    of_options, of_pairs = (
        [f"{' | '.join(patterns)}) options= {value} ;;" for value, patterns in found.items()]
        for found in (alone, pairs)
    )
    return _BASH.format(
        commands=quote(" ".join(each.name for each in commands)),
        of_commands=_INDENT.join(of_commands),
        of_options=_INDENT.join(of_options),
        of_pairs=_INDENT.join(of_pairs),
        tui=quote(" ".join(_flags(tui)) if tui else ""),
    )


def _bash_value(argument: Argument) -> str:
    return f"words={quote(' '.join(argument.choices))} kind={argument.kind or 'words'}"


def _flags(command: CommandLine) -> list[str]:
    return [flag for option in command.options for flag in option.flags]


# -- zsh -------------------------------------------------------------------------------------------

_ZSH = """\
#compdef seedconv
# Completion of seedconv for zsh, made by `seedconv completion zsh`.
_seedconv_names() {{
    local -a names
    names=("${{(@f)$(command seedconv completion --names $1 "${{(@)words}}" 2>/dev/null)}}")
    names=("${{(@)names:#}}")
    compadd -a names
}}
_seedconv_commands() {{
    local -a commands
    commands=(
{commands}
    )
    _describe -t commands command commands
    _files -/
}}
_seedconv() {{
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C '(- *)'{{-h,--help}}'[show the help]' '(- *)--version[show the version]' \\
        '1:command:_seedconv_commands' '*::argument:->arguments'
    [[ $state == arguments ]] || return
    case $line[1] in
{of_commands}
    esac
}}
if [[ $funcstack[1] == _seedconv ]]; then _seedconv "$@"; else compdef _seedconv seedconv; fi
"""

_ZSH_ACTIONS = {  # after a blank nothing is inserted before its arguments
    _FILE: "_files",
    "store": "_files -/",
    "models": " _seedconv_names models",
    "categories": " _seedconv_names categories",
}


def zsh(commands: Sequence[CommandLine]) -> str:
    """Return the script for zsh, to be sourced or put on `fpath` as `_seedconv`."""
    lines = []
    for each in commands:
        pattern = f"{each.name} | *" if each.name == "tui" else each.name
        specs = [spec for option in each.options for spec in _zsh_option(option)]
        specs += [f"*{_zsh_value(each.place)}"] if each.place.values else []
        lines.append((pattern, " \\\n                ".join(map(quote, specs))))
    lines.sort(key=lambda line: "*" in line[0])  # `seedconv STORE` is `seedconv tui STORE`
    of_commands = [
        f"        {name})\n            _arguments {specs}\n            ;;" for name, specs in lines
    ]
    described = [f"{each.name}:{each.help}" for each in commands]
    return _ZSH.format(
        commands="\n".join(f"        {quote(each)}" for each in described),
        of_commands="\n".join(of_commands),
    )


def _zsh_option(option: Argument) -> list[str]:
    text = _escaped(option.help, "\\[]:")
    values = _zsh_value(option) * option.values
    return [f"*{flag}[{text}]{values}" for flag in option.flags]


def _zsh_value(argument: Argument) -> str:
    if argument.choices:
        return f":value:({' '.join(argument.choices)})"
    return f":{argument.kind or 'value'}:{_ZSH_ACTIONS.get(argument.kind, ' ')}"


# -- fish ------------------------------------------------------------------------------------------

_FISH = """\
# Completion of seedconv for fish, made by `seedconv completion fish`.
function __seedconv_names
    command seedconv completion --names $argv[1] (commandline -opc) 2>/dev/null
end
function __seedconv_command
    set -l words (commandline -opc)
    test (count $words) -gt 1; or return 1
    set -l name $words[2]
    contains -- $name {names}; or set name tui
    test $name = $argv[1]
end
complete -c seedconv -f
complete -c seedconv -n 'test (count (commandline -opc)) -eq 1' -s h -l help -d 'show the help'
complete -c seedconv -n 'test (count (commandline -opc)) -eq 1' -l version -d 'show the version'
complete -c seedconv -n 'test (count (commandline -opc)) -eq 1' -a '(__fish_complete_directories)'
"""

_FISH_ACTIONS = {
    "store": "(__fish_complete_directories)",
    "models": "(__seedconv_names models)",
    "categories": "(__seedconv_names categories)",
}


def fish(commands: Sequence[CommandLine]) -> str:
    """Return the script for fish."""
    lines = []
    for each in commands:
        lines.append(
            "complete -c seedconv -n 'test (count (commandline -opc)) -eq 1' "
            f"-a {each.name} -d {_fish(each.help)}"
        )
        start = f"complete -c seedconv -n '__seedconv_command {each.name}'"
        lines += [
            f"{start} {_fish_flags(option)}{_fish_value(option)} -d {_fish(option.help)}"
            for option in each.options
        ]
        lines += [f"{start}{_fish_value(each.place, required=False)}"] if each.place.values else []
    names = " ".join(each.name for each in commands)
    return _FISH.format(names=names) + "\n".join(lines) + "\n"


def _fish_flags(option: Argument) -> str:
    return " ".join(
        f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags
    )


def _fish_value(argument: Argument, *, required: bool = True) -> str:
    if not argument.values:
        return ""
    if argument.kind == _FILE:
        return " -r -F" if required else " -F"
    action = " ".join(argument.choices) or _FISH_ACTIONS.get(argument.kind, "")
    return " -x" * required + (f" -a {_fish(action)}" if action else "")


def _fish(text: str) -> str:
    return f"'{_escaped(text, chr(92) + chr(39))}'"


def _escaped(text: str, special: str) -> str:
    return "".join(f"\\{char}" if char in special else char for char in text)


SCRIPTS: Mapping[str, Callable[[Sequence[CommandLine]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}
