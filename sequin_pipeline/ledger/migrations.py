"""This module is the ledger's tables, as the steps by which each version of the ledger becomes the next.

A step that has been released stays as it is; what changes is added at the end. Who runs them, and when, is in schema.py.
"""

MIGRATIONS = (
    """
    create table {schema}.tables (
        table_name text primary key,
        label text not null,
        source_kind text not null,
        base_url text not null,
        stream text not null,
        on_delete text not null,
        row_count bigint not null default 0,
        created_at timestamptz not null default now()
    );
    comment on table {schema}.tables is 'where the rows of each table come from, and how many there are';

    create table {schema}.cursors (
        table_name text not null references {schema}.tables on delete cascade,
        lane integer not null,
        lanes integer not null,
        epoch bigint not null,
        seq bigint not null,
        cursor text,
        stream_time timestamptz,
        run_id text not null,
        committed_at timestamptz not null default now(),
        primary key (table_name, lane)
    );
    comment on table {schema}.cursors is 'the live cursor: everything before it has been committed; moved by compare-and-set only';

    create table {schema}.positions (
        table_name text not null references {schema}.tables on delete cascade,
        stream_time timestamptz not null,
        cursor text not null,
        primary key (table_name, stream_time)
    );
    comment on table {schema}.positions is 'no record before cursor entered the stream after stream_time: where backfills start';

    create table {schema}.merges (
        batch_id uuid not null,
        lane integer not null default 0,
        window_key text not null default '',
        table_name text not null,
        label text not null,
        run_id text not null,
        mode text not null,
        cursor_before text,
        cursor_after text,
        fetched bigint not null,
        inserted bigint not null,
        updated bigint not null,
        deleted bigint not null,
        unchanged bigint not null,
        stale bigint not null,
        duplicate bigint not null,
        rejected bigint not null,
        created bigint not null,
        removed bigint not null,
        rewritten bigint not null,
        bytes bigint not null default 0,
        wal_bytes bigint not null default 0,
        seconds jsonb not null default '{{}}',
        committed_at timestamptz not null default now(),
        primary key (batch_id, lane, window_key),
        constraint conserved check
            (fetched = inserted + updated + deleted + unchanged + stale + duplicate + rejected)
    );
    create index on {schema}.merges (table_name, committed_at);
    create index on {schema}.merges (committed_at);
    comment on table {schema}.merges is 'what each committed batch did, by lane and window';

    create table {schema}.rejects (
        table_name text not null,
        content_hash uuid not null,
        label text not null,
        record_id text,
        version bigint,
        raw bytea not null,
        reason text not null,
        class text not null,
        sqlstate text,
        first_seen_at timestamptz not null default now(),
        last_seen_at timestamptz not null default now(),
        seen bigint not null default 1,
        run_id text not null,
        resolved_at timestamptz,
        resolution text,
        primary key (table_name, content_hash)
    );
    create index on {schema}.rejects (table_name) where resolved_at is null;
    comment on table {schema}.rejects is 'records that could not be stored, whole, one row per content';

    create table {schema}.versions (
        table_name text not null,
        id text not null,
        updated_idx bigint not null,
        deleted_at timestamptz not null default now(),
        primary key (table_name, id)
    );
    comment on table {schema}.versions is 'removed rows and the version that removed them: no older copy brings them back';

    create table {schema}.columns (
        table_name text not null references {schema}.tables on delete cascade,
        column_name text not null,
        fingerprint text not null,
        refilled_after text,
        refilled_at timestamptz,
        primary key (table_name, column_name)
    );
    comment on table {schema}.columns is 'the declaration each column was filled by, and how far a refill has come';

    create table {schema}.fields (
        table_name text not null references {schema}.tables on delete cascade,
        field text not null,
        present bigint not null,
        sampled bigint not null,
        types jsonb not null,
        first_seen_at timestamptz not null default now(),
        last_seen_at timestamptz not null default now(),
        primary key (table_name, field)
    );
    comment on table {schema}.fields is 'fields that samples of the objects held, and their JSON types';

    create table {schema}.runs (
        run_id text not null,
        table_name text not null,
        label text not null,
        mode text not null,
        started_at timestamptz not null default now(),
        heartbeat_at timestamptz not null default now(),
        ended_at timestamptz,
        pages bigint not null default 0,
        records bigint not null default 0,
        primary key (run_id, table_name)
    );
    create index on {schema}.runs (started_at);
    comment on table {schema}.runs is 'runs of the pipeline and when they last showed life';
    """,
    # What ticks ask every few minutes, among the runs of three months.
    """
    create index on {schema}.runs (label, ended_at) where mode = 'live';
    create index on {schema}.runs (heartbeat_at);
    """,
    # Of collections that declare a history.
    """
    create table {schema}.history (
        table_name text not null,
        record_id text,
        version bigint,
        fate text not null,
        stored_version bigint,
        reason text,
        batch_id uuid not null,
        run_id text not null,
        mode text not null,
        at timestamptz not null default now(),
        expires_at timestamptz not null
    );
    create index on {schema}.history (table_name, record_id, at);
    create index on {schema}.history (expires_at);
    comment on table {schema}.history is 'what became of every record that was not unchanged, of collections that declare it';
    """,
    # Of sources that list everything.
    """
    create table {schema}.listed (
        table_name text not null references {schema}.tables on delete cascade,
        sync_id text not null,
        version bigint not null,
        ids text[] not null
    );
    create index on {schema}.listed (table_name, sync_id);
    comment on table {schema}.listed is 'what a listing under way has seen: the rest is marked as deleted when it is complete';
    """,
    # Of queues whose messages may leave values out.
    """
    create table {schema}.borrowed (
        table_name text not null,
        id text not null,
        version bigint not null,
        since jsonb not null,
        noted_at timestamptz not null default now(),
        primary key (table_name, id, version)
    );
    create index on {schema}.borrowed (noted_at);
    comment on table {schema}.borrowed is 'values that a version took from older ones, its message having left them out: from which';
    """,
    # Of full readings that take stock of what their source has.
    """
    create table {schema}.census (
        table_name text primary key references {schema}.tables on delete cascade,
        others text not null,
        before text not null,
        began_at timestamptz not null default now()
    );
    comment on table {schema}.census is 'full readings under way that tell at their end which rows the source does not have';
    """,
    # Of sources that list everything: what would delete too much at once.
    """
    create table {schema}.held_deletes (
        table_name text not null references {schema}.tables on delete cascade,
        sync_id text not null,
        version bigint not null,
        row_count bigint not null,
        live_rows bigint not null,
        examples text[] not null,
        accepted bigint,
        held_at timestamptz not null default now(),
        primary key (table_name, sync_id)
    );
    comment on table {schema}.held_deletes is 'what a complete listing did not see, where that is too much to be deleted unasked';
    """,
    # Of runs on several machines: which of them are at work.
    """
    create table {schema}.processes (
        process_id uuid primary key,
        run_id text not null,
        host text not null,
        pid integer not null,
        lost_after interval not null,
        started_at timestamptz not null default clock_timestamp(),
        beat_at timestamptz not null default clock_timestamp(),
        lost_at timestamptz
    );
    comment on table {schema}.processes is 'processes at work on runs, and when they last showed life; whoever ends takes its row away';
    alter table {schema}.runs add column host text;
    """,
    # Of ticks that launch nothing.
    """
    alter table {schema}.runs add column asked_at timestamptz;
    comment on column {schema}.runs.asked_at is 'when a tick last found that the source had nothing new since this live run';
    """,
    # Of first loads that several runs read beside each other: shard 0 is the live cursor.
    """
    alter table {schema}.cursors add column shard integer not null default 0;
    alter table {schema}.cursors drop constraint cursors_pkey;
    alter table {schema}.cursors add primary key (table_name, shard, lane);
    create table {schema}.shards (
        table_name text not null references {schema}.tables on delete cascade,
        shard integer not null,
        syncs text[] not null,
        began_at timestamptz not null,
        completed_at timestamptz,
        primary key (table_name, shard)
    );
    comment on table {schema}.shards is 'first loads under way that are divided: which syncs each shard reads, and whether it has';
    """,
    # Of tenants and records that are forgotten.
    """
    create table {schema}.forgets (
        generation bigint primary key,
        kind text not null,
        label text not null,
        salt bytea not null,
        hash bytea not null,
        requested_at timestamptz not null default now(),
        completed_at timestamptz,
        undone_at timestamptz,
        removed jsonb not null default '{{}}'
    );
    comment on table {schema}.forgets is 'whose records are removed and never written again, by salted hashes: nothing names anybody';

    alter table {schema}.merges add column forgotten bigint not null default 0;
    alter table {schema}.merges drop constraint conserved;
    alter table {schema}.merges add constraint conserved check
        (fetched = inserted + updated + deleted + unchanged + stale + duplicate + rejected + forgotten);
    alter table {schema}.versions add column sync_id text, add column internal_id text;
    alter table {schema}.history add column sync_id text, add column internal_id text;
    """,
    # Of tenants beside each other.
    """
    create table {schema}.syncs (
        table_name text not null,
        sync_id text not null,
        internal_id text,
        records bigint not null,
        rejected bigint not null,
        stream_time timestamptz,
        delivered_at timestamptz not null default now(),
        primary key (table_name, sync_id)
    );
    comment on table {schema}.syncs is 'what has come of each sync, and the newest time at which a version of it entered the stream';
    alter table {schema}.rejects add column sync_id text;
    """,
    # Of values that a version took for a row that was forgotten before there was any.
    """
    alter table {schema}.borrowed add column sync_id text, add column internal_id text;
    """,
    # Of tables that keep every version.
    """
    create table {schema}.history_tables (
        history_table text primary key,
        table_name text not null,
        label text not null,
        seeded_after text,
        seeded_at timestamptz,
        created_at timestamptz not null default now()
    );
    comment on table {schema}.history_tables is 'the history table of each table, and whether it has the rows that were there before';
    """,
    # Of child tables: whose rows theirs stand below.
    """
    alter table {schema}.tables add column parent_table text;
    """,
)
"""Each is several statements in one string, which names the schema as `{schema}`."""
