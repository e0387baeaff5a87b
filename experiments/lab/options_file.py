"""A YAML file of options, of which nothing but texts is read: each as it is typed."""

from pathlib import Path

from activation_pruning.support.optional import optional

LONGEST = 1 << 16  # characters
_NOTHING = ("", "~", "null", "Null", "NULL")


def read(path: Path | str) -> dict[str, str | list[str] | None]:
    """{option: its text, or list of texts; None where nothing is said}.

    No text becomes anything else, as YAML would have it with 010, 1:30, no and 2024-01-01: what
    holds on the command line holds here.

    Raises:
        ValueError: it is no YAML, or other than lines of `option: value`; an option comes twice.
        ImportError: PyYAML is not installed.
        OSError: it cannot be read.
    """
    yaml = optional("yaml", "distributed")  # whoever has no such file does without
    text = Path(path).read_text(encoding="utf-8")
    if len(text) > LONGEST:
        raise ValueError(f"has {len(text):,} characters; options take no more than {LONGEST:,}")
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except RecursionError as error:
        raise ValueError("not readable as YAML: nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not readable as YAML ({error})") from error
    if not isinstance(root, yaml.MappingNode):
        kind = "list" if isinstance(root, yaml.SequenceNode) else "text" if root else "nothing"
        raise ValueError(f"holds {kind}; expected: lines of `option: value`")
    found: dict[str, str | list[str] | None] = {}
    for name, node in root.value:
        key = _text("an option", name)
        if key is None or key in found:
            raise ValueError(f"{key}: the option has no name, or comes twice")
        listed = isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq")
        found[key] = [_item(key, one) for one in node.value] if listed else _text(key, node)
    return found


def _item(key, node):
    text = _text(key, node)
    if text is None:
        raise ValueError(f"{key}: a list holds nothing; give a number or a text")
    return text


def _text(key, node):
    """The text of a node; None for an empty one. ValueError for whatever is not a text."""
    if not isinstance(node.value, str) or node.tag != "tag:yaml.org,2002:str":
        raise ValueError(f"{key}: give a number, a text, or a list of these, without tags")
    return None if node.style is None and node.value in _NOTHING else node.value
