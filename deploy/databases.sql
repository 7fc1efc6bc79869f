-- Both databases of compose.yaml and the role that owns them: run by the image of Postgres when its volume is new, as its superuser.
-- For a Postgres of yours, writer_role.sql makes a role with fewer rights in the warehouse.

\set ON_ERROR_STOP on
\getenv password SEQUIN_DATABASE_PASSWORD

create role sequin login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password :'password';
create database warehouse owner sequin encoding 'UTF8' template template0;
create database dagster owner sequin encoding 'UTF8' template template0;
revoke connect, temporary on database warehouse, dagster from public;
