"""Prints the table, a row a line, as SQLAlchemy reads it."""

import json

from database import engine
from models import Subscription
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

with Session(engine) as session:
    for row in session.scalars(select(Subscription).order_by(Subscription.id)):
        values = {column.columns[0].name: getattr(row, column.key) for column in inspect(Subscription).column_attrs}
        print(json.dumps(values, default=lambda time: time.isoformat()))
