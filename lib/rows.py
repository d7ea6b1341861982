"""Tables from columns, held to their schema: no forgotten column, no silent null, no silent cast."""

import pyarrow as pa
import pyarrow.compute as pc


def table(columns: dict, schema: pa.Schema) -> pa.Table:
    """A table of ``schema`` from arrays or lists; nullable columns that are left out are null.

    >>> table({"a": [1, 2]}, pa.schema([pa.field("a", pa.int32()), pa.field("b", pa.string())])).num_rows
    2
    """
    problems = [f"unknown column {name}" for name in columns.keys() - set(schema.names)]
    problems += [f"missing column {f.name}" for f in schema if f.name not in columns and not f.nullable]
    if problems:
        raise ValueError("; ".join(sorted(problems)))
    rows = len(next(iter(columns.values())))
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        arrays.append(pa.nulls(rows, field.type) if values is None else _array(values, field))
    made = pa.Table.from_arrays(arrays, schema=schema)
    check(made, schema)
    return made


def _array(values, field):
    try:
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            return values if values.type == field.type else values.cast(field.type)
        return pa.array(values, type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"column {field.name}: {error}") from error


def check(data, schema: pa.Schema) -> None:
    """Raise unless ``data`` (table or batch) has the schema's columns, types and no null where none may be."""
    problems = []
    if data.schema.names != schema.names:
        problems.append(f"columns {data.schema.names} are not {schema.names}")
    else:
        for field, column in zip(schema, data.columns, strict=True):
            if column.type != field.type:
                problems.append(f"column {field.name} is {column.type}, not {field.type}")
            elif not field.nullable and column.null_count:
                problems.append(f"column {field.name} has {column.null_count} nulls")
    if problems:
        raise ValueError("; ".join(problems))


def where(data: pa.Table, **equal) -> pa.Table:
    """Rows whose columns equal the given values.

    >>> where(pa.table({"a": [1, 2, 2]}), a=2).num_rows
    2
    """
    for name, value in equal.items():
        data = data.filter(pc.equal(data[name], value))
    return data
