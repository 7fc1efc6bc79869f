-- The role that the pipeline writes as: it owns the schemas of its tables and its ledger, and nothing else.
--
--   psql "$ADMIN_URL" -v role=sequin_writer -v schemas=stripe,github -f deploy/writer_role.sql
--
-- Run it in the warehouse, as somebody who may create roles. `schemas` are those of the collections' tables, with commas between them;
-- run it again after a provider was added. Before Postgres 15 every role may create tables in the schema public; an administrator takes that
-- away, from everybody, by: revoke create on schema public from public. Give the role its password with psql's own \password, which sends none in clear text.

\set ON_ERROR_STOP on
begin;

select format('create role %I login nosuperuser nocreatedb nocreaterole noreplication nobypassrls', :'role')
where not exists (select from pg_roles where rolname = :'role') \gexec

-- Staging tables are temporary.
select format('grant connect, temporary on database %I to %I', current_database(), :'role') \gexec

select format('create schema %I authorization %I', wanted.name, :'role')
from (select distinct trim(name) as name from unnest(array_append(string_to_array(:'schemas', ','), 'sequin_pipeline')) name) wanted
where not exists (select from pg_namespace where nspname = wanted.name) \gexec

commit;
