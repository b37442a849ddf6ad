"""Alembic's entry point: runs on the connection the ledger hands over, never on one of its own."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
