"""This room writes the managed tables as models of somebody's application: what `sequin-pipeline schema` prints.

There is one module per format, each a pure function of tables to text. Everything derives from the target that the pipeline itself
creates the table from. Tables that somebody else manages have no model here: their application has it.
"""

from collections.abc import Callable, Mapping, Sequence

from sequin_pipeline.operate.models.drizzle import drizzle_models
from sequin_pipeline.operate.models.prisma import prisma_models
from sequin_pipeline.operate.models.sql import sql_models
from sequin_pipeline.operate.models.sqlalchemy_orm import sqlalchemy_models
from sequin_pipeline.operate.models.table import ModelTable
from sequin_pipeline.operate.models.typeorm import typeorm_models

FORMATS: Mapping[str, Callable[[Sequence[ModelTable]], str]] = {
    "drizzle": drizzle_models,
    "prisma": prisma_models,
    "typeorm": typeorm_models,
    "sqlalchemy": sqlalchemy_models,
    "sql": sql_models,
}
"""This maps the name of each format to a function from tables to the text of one file, which ends with a line break."""
