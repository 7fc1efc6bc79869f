"""What a defs.yaml says of child tables, and what it cannot say."""

import pytest

from sequin_pipeline.catalog import Column, Path, TableName, check_tables, parse_path
from sequin_pipeline.errors import CatalogError
from tests.support.declarations import declared

FILE = """
provider: stripe
collections:
  invoice:
    {0}
"""


def test_lists_become_child_tables_beside_their_parents() -> None:
    (invoice,) = declared(
        """
provider: stripe
collections:
  invoice:
    children:
      line:
        path: lines.data
        key: [id, kind]
        columns:
          id: {path: id, type: bigint}
          amount: {path: amount, type: numeric}
        children:
          tax: {path: taxes, table: {name: taxes.line_tax}}
      label: {path: metadata, by_name: true, columns: {value: {path: $, type: text}}}
"""
    )

    line, tax, label = invoice.children

    assert (line.name, line.table, line.path) == ("line", TableName("stripe", "invoice_line"), parse_path("lines.data"))
    assert [(column.name, column.type) for column in line.key] == [("id", "bigint"), ("kind", "text")]
    assert [column.name for column in line.read] == ["id", "kind", "position", "amount"]
    assert (tax.name, tax.table, tax.within) == ("line_tax", TableName("taxes", "line_tax"), line)
    assert [column.name for column in tax.read] == ["line_id", "line_kind", "position"]
    assert (label.by_name, label.columns) == (True, (Column("value", Path("data", ()), "text"),))
    assert [column.name for column in label.read] == ["name", "value"]


def test_a_child_table_may_belong_to_an_application() -> None:
    (invoice,) = declared(
        """
provider: stripe
collections:
  invoice:
    children:
      line:
        path: lines.data
        key: [id]
        columns: {amount: {path: amount, type: numeric}, kind: {path: kind, type: text}}
        table: {name: app.InvoiceLine, managed: false, columns: {parent_id: invoiceId, kind: lineKind, updated_at: updatedAt}}
        children:
          tax: {path: taxes, table: {name: app.Tax, managed: false, columns: {parent_id: invoiceId, line_id: lineId}}}
"""
    )

    line, tax = invoice.children

    assert line.table == TableName("app", "InvoiceLine")
    assert line.unmanaged is not None
    assert line.unmanaged.columns == {
        "id": "id",
        "amount": "amount",
        "kind": "lineKind",
        "parent_id": "invoiceId",
        "updated_at": "updatedAt",
    }
    assert tax.unmanaged is not None
    assert tax.unmanaged.columns == {"line_id": "lineId", "position": "position", "parent_id": "invoiceId"}


def test_a_child_table_has_indexes_on_its_own_columns_and_on_those_of_every_child() -> None:
    (invoice,) = declared(
        """
provider: stripe
collections:
  invoice:
    children:
      line:
        path: lines
        key: [id]
        indexes: [[amount], [internal_id, updated_at]]
        columns: {amount: {path: amount, type: numeric}}
        children:
          tax: {path: taxes, indexes: [[line_id], [position, parent_id]]}
      label: {path: metadata, by_name: true, indexes: [[name]]}
"""
    )

    assert [child.indexes for child in invoice.children] == [
        (("amount",), ("internal_id", "updated_at")),
        (("line_id",), ("position", "parent_id")),
        (("name",),),
    ]


THEIRS = "table: {name: app.Line, managed: false"

REFUSALS = {
    "no column for the parent's id": (
        f"children: {{line: {{path: lines, key: [id], {THEIRS}, columns: {{id: id}}}}}}}}",
        "child 'line' finds rows by their parent's id, and no column of table 'app.Line' takes `parent_id`: add `parent_id: <its column>`",
    ),
    "a mapped column that children do not have": (
        f"children: {{line: {{path: lines, key: [id], {THEIRS}, columns: {{parent_id: p, upstream_id: u}}}}}}}}",
        "child 'line' maps 'upstream_id', which is neither declared nor a column that rows of children have: name one of parent_id, id, "
        "position, sync_id, internal_id, updated_idx, deleted, inserted_at, updated_at, data, or declare it below `columns` of the child",
    ),
    "two columns in one of the application's": (
        f"children: {{line: {{path: lines, key: [id], {THEIRS}, columns: {{parent_id: id}}}}}}}}",
        "child 'line' maps both 'id' and 'parent_id' to column 'id': give each its own",
    ),
    "a foreign key on an application's table": (
        f"children: {{line: {{path: lines, key: [id], foreign_key: true, {THEIRS}, columns: {{parent_id: p}}}}}}}}",
        "child 'line' asks for a foreign key on table 'app.Line', which belongs to an application and would be changed by it: remove "
        "'foreign_key', or create it with the application's migrations, deferrable and initially deferred",
    ),
    "a foreign key to an application's child table": (
        f"children: {{line: {{path: lines, key: [id], {THEIRS}, columns: {{parent_id: p}}}},"
        " children: {tax: {path: taxes, foreign_key: true}}}}",
        "child 'line_tax' asks for a foreign key to table 'app.Line', which belongs to an application and would be changed by it: remove "
        "'foreign_key', or create it with the application's migrations",
    ),
    "columns of a table that the pipeline manages": (
        "children: {line: {path: lines, key: [id], table: {name: app.line, columns: {parent_id: p}}}}",
        "child 'line' gives 'columns' for a table that the pipeline manages, whose columns are its own: remove 'columns', or say "
        "`managed: false` for a table that belongs to an application",
    ),
    "an index on what is no column": (
        "children: {line: {path: lines, key: [id], indexes: [[upstream_id]]}}",
        "child 'line' asks for an index on 'upstream_id', which is not a column of its table: name some of parent_id, id, position, "
        "sync_id, internal_id, updated_idx, deleted, inserted_at, updated_at, data",
    ),
    "an index on the position of a member": (
        "children: {label: {path: labels, by_name: true, indexes: [[position]]}}",
        "child 'label' asks for an index on 'position', which is not a column of its table: name some of parent_id, name, "
        "sync_id, internal_id, updated_idx, deleted, inserted_at, updated_at, data",
    ),
    "an index twice": (
        "children: {line: {path: lines, children: {tax: {path: taxes, indexes: [[sync_id], [sync_id]]}}}}",
        "child 'line_tax' asks for the index ['sync_id']: name each column once, and each index once",
    ),
    "an index on json": (
        "data: json\n    children: {line: {path: lines, indexes: [[data]]}}",
        "child 'line' asks for an index on 'data', which is declared as json, a type without an order: create one on an expression "
        "yourself, as in `create index on schema.table using gin ((data::jsonb))`",
    ),
    "an index on an application's table": (
        f"children: {{line: {{path: lines, key: [id], indexes: [[id]], {THEIRS}, columns: {{parent_id: p}}}}}}}}",
        "child 'line' asks for indexes on a table that belongs to an application: create them with its migrations",
    ),
    "a path into the envelope": (
        "children: {line: {path: record.sync.lines}}",
        "child 'line' has the path 'record.sync.lines', which leads to the envelope, where it has to lead into the object: "
        "write $.record.sync.lines for a member of that name",
    ),
    "a key beside names": (
        "children: {label: {path: labels, by_name: true, key: [id]}}",
        "child 'label' has `by_name: true`, which makes the names of members the key: remove 'key', or 'by_name' for a list",
    ),
    "a key twice": (
        "children: {line: {path: lines, key: [id, id]}}",
        "child 'line' names a column of its key twice: name each once",
    ),
    "a key of numbers with digits": (
        "children: {line: {path: lines, key: [rate], columns: {rate: {path: rate, type: numeric}}}}",
        "child 'line' has 'rate' of type numeric in its key, of which equal values may be written in several ways: declare it as one of "
        "text, integer, bigint, boolean, uuid, date, timestamptz",
    ),
    "a key of a name that is taken": (
        "children: {line: {path: lines, key: [position]}}",
        "child 'line' has 'position' in its key, the name of a column that its table has: declare a column of another name with the path "
        "position, and name that one",
    ),
    "a column of a name that is taken": (
        "children: {line: {path: lines, columns: {deleted: {path: deleted, type: boolean}}}}",
        "column 'deleted' of child 'line' would take the name of one that its table has: choose another name",
    ),
    "a column of the outer key's name": (
        "children: {line: {path: lines, key: [id], children: {tax: {path: taxes, columns: {line_id: {path: x, type: text}}}}}}",
        "column 'line_id' of child 'line_tax' would take the name of one that its table has: choose another name",
    ),
    "two of one name": (
        "children: {line_tax: {path: a}, line: {path: b, children: {tax: {path: c}}}}",
        "collection 'invoice' has two child tables named 'line_tax': give one of them another name",
    ),
    "too many": (
        f"children: {{{', '.join(f'c{number}: {{path: p{number}}}' for number in range(9))}}}",
        "collection 'invoice' has 9 child tables, and at most 8 are kept: leave out some",
    ),
    "rows that are not found by the id": (
        "table: {name: app.invoice, managed: false, key: [sync_id, upstream_id], columns: {sync_id: s, upstream_id: u, deleted: d}}\n"
        "    children: {line: {path: lines}}",
        "collection 'invoice' finds rows of table 'app.invoice' by (sync_id, upstream_id), and rows of child tables are found by the "
        "record's id: map `id`, and say key: [id]",
    ),
    "an application's table without the object": (
        "table: {name: app.invoice, managed: false, columns: {id: id, deleted: gone}}\n    children: {line: {path: lines}}",
        "collection 'invoice' has child tables, and no column of table 'app.invoice' takes `data`, which tells from which version of an "
        "object they come: map `data` to a jsonb column",
    ),
    "a foreign key to an application's table": (
        "table: {name: app.invoice, managed: false, columns: {id: id, deleted: gone, data: data}}\n"
        "    children: {line: {path: lines, foreign_key: true}}",
        "child 'line' asks for a foreign key to table 'app.invoice', which belongs to an application and would be changed by it: remove "
        "'foreign_key', or create it with the application's migrations",
    ),
}


@pytest.mark.parametrize(("said", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_child_table_that_cannot_be_is_refused_with_its_fix(said: str, message: str) -> None:
    with pytest.raises(CatalogError) as refused:
        declared(FILE.format(said))

    assert str(refused.value) == message


def test_a_child_table_that_another_collection_has_is_refused() -> None:
    collections = declared("provider: stripe\ncollections: {invoice: {children: {line: {path: lines}}}, invoice_line: {}}")

    with pytest.raises(CatalogError) as refused:
        check_tables(collections, "sequin_pipeline")

    assert str(refused.value) == (
        "collections child 'line' of 'stripe/invoice' (no file) and 'stripe/invoice_line' would both land in table "
        "'stripe.invoice_line': name another table for one of them with `table: {name: schema.table}`"
    )
