"""This module has the base of every model of a defs.yaml, and types that several of them share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, WithJsonSchema

VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"

_ENV_SCHEMA = {
    "type": "object",
    "properties": {"env": {"type": "string", "pattern": VARIABLE_PATTERN}},
    "required": ["env"],
    "additionalProperties": False,
}
SETTING_SCHEMA = {"anyOf": [{"type": "string"}, _ENV_SCHEMA]}

_DEFAULTED_SCHEMA = {
    "type": "object",
    "properties": {"env": {"type": "string", "pattern": VARIABLE_PATTERN}, "default": {"type": "string"}},
    "required": ["env", "default"],
    "additionalProperties": False,
}

AddressValue = Annotated[object, WithJsonSchema({"anyOf": [{"type": "string"}, _ENV_SCHEMA, _DEFAULTED_SCHEMA]})]
"""This is an address, the variable that holds it, or a variable that may hold another one: `{env: NAME, default: TEXT}`."""

SettingValue = Annotated[object, WithJsonSchema(SETTING_SCHEMA)]
"""This is a text, or `{env: NAME}` for what a variable holds; parse_rest.py refuses anything else with a sentence."""


class StrictModel(BaseModel):
    """Nothing is coerced, so that loading refuses what the schema refuses; unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
