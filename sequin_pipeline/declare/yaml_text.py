"""This module reads the text of a defs.yaml before Dagster does, so that errors get file and line instead of a traceback."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sequin_pipeline.errors import CatalogError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def declared_types(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the `type` of each component below `folder`, and its `file:line`; raises CatalogError for a file that is not a YAML
    mapping."""
    for file in sorted(folder.rglob("defs.yaml")):
        for document in _documents(file):
            for key, value in document.value:
                if key.value == "type" and isinstance(value, yaml.ScalarNode):
                    yield value.value, _origin(file, value)


def raw_collections(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields label and keys of each collection that the files below `folder` name, with the file's `source`, and nothing checked.

    For whoever cannot wait for Dagster to load them; raises CatalogError for a file that is not a YAML mapping.
    """
    for file in sorted(folder.rglob("defs.yaml")):
        for document in _documents(file):
            attributes = yaml.SafeLoader("").construct_document(document).get("attributes")
            collections = attributes.get("collections") if isinstance(attributes, dict) else None
            for name, declared in (collections if isinstance(collections, dict) else {}).items():
                keys = declared if isinstance(declared, dict) else {}
                yield f"{attributes.get('provider')}/{name}", {"source": attributes.get("source"), **keys}


def _documents(file: Path) -> Iterator[yaml.MappingNode]:
    try:
        text = file.read_bytes().decode()
        documents = [document for document in yaml.compose_all(text, Loader=LOADER) if document is not None]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CatalogError("the file is not UTF-8: save it as UTF-8", f"{file}:{line}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise CatalogError(f"this is not YAML: {said}", f"{file}:{mark.line + 1}" if mark else str(file)) from error
    except yaml.YAMLError as error:
        # Characters that YAML forbids: the error tells its place only in its text.
        raise CatalogError(f"this is not YAML: {' '.join(str(error).split())}", str(file)) from error
    if not documents:
        raise CatalogError("the file declares nothing: begin it with `type:` and `attributes:`, or remove it", f"{file}:1")
    for document in documents:
        if not isinstance(document, yaml.MappingNode):
            raise CatalogError("a mapping with `type` and `attributes` was expected here", _origin(file, document))
        yield document


def _origin(file: Path, node: yaml.Node) -> str:
    return f"{file}:{node.start_mark.line + 1}"
