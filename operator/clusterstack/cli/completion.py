"""`clusterstack completion`: scripts for the shells, made from the command line itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from clusterstack.cli.output import DONE, emit

HELP = "print a completion script for bash, zsh or fish"
EXAMPLES = """\
examples:
  source <(clusterstack completion bash)
  source <(clusterstack completion zsh)
  clusterstack completion fish | source
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(args: argparse.Namespace) -> int:
    from clusterstack.cli.main import parser

    verbs = dict(_verbs(parser()))
    scripts = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    emit(scripts[args.shell](verbs))
    return DONE


class _Verb:
    """What can follow a verb: options with their help, and words (the choices of positional arguments)."""

    def __init__(self, parser: argparse.ArgumentParser, text: str) -> None:
        self.text = text
        self.options: dict[str, str] = {}
        self.words: list[str] = []
        for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
            for option in action.option_strings:
                if option.startswith("--"):
                    self.options[option] = _plain(action.help or "")
            if not action.option_strings and action.choices:
                self.words += [str(choice) for choice in action.choices]


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, _Verb]]:
    for action in parser._actions:  # noqa: SLF001 - likewise
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001 - likewise
            for name, child in action.choices.items():
                yield name, _Verb(child, _plain(texts.get(name, "")))


def _plain(text: str) -> str:
    return text.replace("'", "").replace("[", "(").replace("]", ")").replace(":", ",")


def _bash(verbs: dict[str, _Verb]) -> Iterator[str]:
    yield "_clusterstack() {"
    yield '    local current="${COMP_WORDS[COMP_CWORD]}" verb="${COMP_WORDS[1]}" words='
    yield '    if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'        words="{" ".join(verbs)} --help"'
    yield "    else"
    yield '        case "$verb" in'
    for name, verb in verbs.items():
        yield f'            {name}) words="{" ".join((*verb.words, *verb.options))}" ;;'
    yield "        esac"
    yield "    fi"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "}"
    yield "complete -o default -F _clusterstack clusterstack"


def _zsh(verbs: dict[str, _Verb]) -> Iterator[str]:
    yield "#compdef clusterstack"
    yield "_clusterstack() {"
    yield "    local -a verbs options"
    yield "    verbs=("
    for name, verb in verbs.items():
        yield f"        '{name}:{verb.text}'"
    yield "    )"
    yield "    if (( CURRENT == 2 )); then _describe verb verbs; return; fi"
    yield '    case "$words[2]" in'
    for name, verb in verbs.items():
        entries = [f"'{option}:{text}'" for option, text in verb.options.items()]
        entries = [f"'{word}'" for word in verb.words] + entries
        yield f"        {name}) options=({' '.join(entries)}) ;;"
    yield "    esac"
    yield "    _describe option options || _files"
    yield "}"
    yield "compdef _clusterstack clusterstack"


def _fish(verbs: dict[str, _Verb]) -> Iterator[str]:
    yield "complete -c clusterstack -f"
    for name, verb in verbs.items():
        yield f"complete -c clusterstack -n __fish_use_subcommand -a {name} -d '{verb.text}'"
    for name, verb in verbs.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        if verb.words:
            yield f"complete -c clusterstack {seen} -a '{' '.join(verb.words)}'"
        for option, text in verb.options.items():
            yield f"complete -c clusterstack {seen} -l {option.removeprefix('--')} -d '{text}'"
