-- The role that applications and people read as: the rows of the synced tables, now and later, and never the ledger, whose rejects
-- hold records as they were received.
--
--   psql "$WRITER_URL" -v role=sequin_reader -v schemas=stripe,github -f deploy/reader_role.sql
--
-- Run it as the writer, who owns the tables, once the role exists (create role sequin_reader login).

\set ON_ERROR_STOP on
begin;

select format('grant usage on schema %I to %I', trim(name), :'role') from unnest(string_to_array(:'schemas', ',')) name \gexec
select format('grant select on all tables in schema %I to %I', trim(name), :'role') from unnest(string_to_array(:'schemas', ',')) name \gexec
-- Of tables that the next sync creates, too.
select format('alter default privileges in schema %I grant select on tables to %I', trim(name), :'role')
from unnest(string_to_array(:'schemas', ',')) name \gexec

commit;
