{# The post-hook: stages the changes of a model while dbt builds it, by the very macros that a run uses. What it needs to
   know of a sync the command line has left in the state schema, because a macro cannot read posthog_sync.yml.
   It must never fail a build: what could fail is asked for first, by selects that cannot, and done under guard. #}

{# Write it as a post-hook, for all models if you like; those without an annotation cost nothing: +post-hook: "{{ dbt_posthog_sync.stage_changes() }}" #}
{% macro stage_changes() %}
  {%- if execute and dbt_posthog_sync.is_building() and 'posthog_sync' in (model.config.meta or {}) -%}
    {%- do dbt_posthog_sync.stage_model(dbt_posthog_sync.hook_schema(), this, model.unique_id) -%}
  {%- endif -%}
  {{- return('') -}}
{% endmacro %}

{# Version of these macros; the state of another version is left alone. #}
{% macro program_version() %}{{ return('0.1.0') }}{% endmacro %}

{# True for commands that build tables with all their rows. #}
{% macro is_building() %}
  {%- if flags.WHICH not in ['run', 'build', 'seed', 'snapshot', 'retry'] -%}{{- return(false) -}}{%- endif -%}
  {{- return(not flags.EMPTY and not (flags.SAMPLE is defined and flags.SAMPLE)) -}}
{% endmacro %}

{# Name of the state schema: as in posthog_sync.yml, which a macro cannot read. #}
{% macro hook_schema() %}{{ return(var('posthog_sync_state_schema', 'posthog_sync')) }}{% endmacro %}

{% macro hook_says(relation, words, aloud=true) %}
  {%- do log('dbt_posthog_sync: ' ~ relation.identifier ~ ': ' ~ words, info=aloud) -%}
{% endmacro %}

{# Stage every sync of a model. #}
{% macro stage_model(schema, relation, unique_id) %}
  {%- set shared = ['build_syncs', 'build_stagings', 'syncs', 'leases', 'rejected_rows', 'doubtful_rows', 'erased_persons'] -%}
  {%- if dbt_posthog_sync.unusable(schema, shared, ['build_stagings']) -%}
    {%- do dbt_posthog_sync.hook_says(relation, 'nothing staged: the state schema `' ~ schema ~ '` is not there, or may not be used. '
      ~ '`dbt-posthog-sync run` makes it; if posthog_sync.yml names another, say so by the variable posthog_sync_state_schema.') -%}
    {{- return('') -}}
  {%- endif -%}
  {%- set found = run_query(dbt_posthog_sync.read_build_syncs(schema, unique_id)) -%}
  {%- if not found.rows -%}
    {%- do dbt_posthog_sync.hook_says(relation, 'nothing staged: no sync of it is known yet; the first complete `dbt-posthog-sync run` makes it known.') -%}
  {%- endif -%}
  {%- for row in found.rows -%}
    {%- do dbt_posthog_sync.stage_sync(schema, row, relation) -%}
  {%- endfor -%}
{% endmacro %}

{# Stage one sync, once more if it met a change of the state: a run may fold a table away at any time. #}
{% macro stage_sync(schema, row, relation) %}
  {%- set obstacle = dbt_posthog_sync.hook_obstacle(schema, row, relation) -%}
  {%- if obstacle -%}
    {%- do dbt_posthog_sync.hook_says(relation, row['name'] ~ ' is not staged: ' ~ obstacle.words, obstacle.aloud) -%}
    {{- return('') -}}
  {%- endif -%}
  {%- set sync = dbt_posthog_sync.hooked_sync(row, relation) -%}
  {%- set outcome = dbt_posthog_sync.stage_build(sync) -%}
  {%- if outcome.failure -%}
    {%- for again in run_query(dbt_posthog_sync.read_build_syncs(schema, row['model'])).rows if again['sync_id'] == row['sync_id'] -%}
      {%- set outcome = dbt_posthog_sync.stage_build(dbt_posthog_sync.hooked_sync(again, relation)) -%}
      {%- do dbt_posthog_sync.hook_reports(relation, again, outcome) -%}
    {%- endfor -%}
  {%- else -%}
    {%- do dbt_posthog_sync.hook_reports(relation, row, outcome) -%}
  {%- endif -%}
{% endmacro %}

{% macro hook_reports(relation, row, outcome) %}
  {%- if outcome.failure -%}
    {%- do dbt_posthog_sync.hook_says(relation, row['name'] ~ ' is not staged: the warehouse refused it (' ~ outcome.failure ~ '). '
      ~ ('What this build made is not kept; ' if row['keeps_every'] else '') ~ '`dbt-posthog-sync run` stages by itself.') -%}
  {%- else -%}
    {%- do dbt_posthog_sync.hook_says(relation, row['name'] ~ ' is staged: ' ~ outcome.rows ~ ' rows.', false) -%}
  {%- endif -%}
{% endmacro %}

{# Why a sync cannot be staged by this build; nothing when it can. Quiet where it is meant so. #}
{% macro hook_obstacle(schema, row, relation) %}
  {%- set targets = fromjson(row['targets']) -%}
  {%- set tables = [row['base_table'], row['log_table'], row['rows_table']] + ([row['changes_table']] if row['changes_table'] else []) -%}
  {%- if targets and target.name not in targets -%}
    {{- return({'words': 'the target ' ~ target.name ~ ' may not send.', 'aloud': false}) -}}
  {%- elif relation | string != row['relation'] -%}
    {{- return({'words': 'the sync reads ' ~ row['relation'] ~ '.', 'aloud': false}) -}}
  {%- elif row['program'] != dbt_posthog_sync.program_version() -%}
    {{- return({'words': 'the state was written by dbt-posthog-sync ' ~ row['program'] ~ ', and this dbt package is '
      ~ dbt_posthog_sync.program_version() ~ '. Let both be of one version, and run `dbt-posthog-sync run`.', 'aloud': true}) -}}
  {%- elif row['canary'] != row['current_canary'] -%}
    {{- return({'words': 'the warehouse hashes rows differently than before. `dbt-posthog-sync plan` says more.', 'aloud': true}) -}}
  {%- elif not row['keeps_every'] and (row['is_held'] or row['has_shards'] or row['changes_table'] or row['has_doubtful']) -%}
    {{- return({'words': 'a run is under way, or did not end. `dbt-posthog-sync run` stages by itself.', 'aloud': true}) -}}
  {%- elif not dbt_posthog_sync.writes_beside(relation) -%}
    {{- return({'words': 'a transaction of this warehouse writes to one database, and the state schema is in another.', 'aloud': true}) -}}
  {%- elif dbt_posthog_sync.unusable(schema, tables, [row['rows_table']]) -%}
    {{- return({'words': 'its tables in the state schema are gone, or may not be used.', 'aloud': true}) -}}
  {%- elif dbt_posthog_sync.has_other_columns(row, relation) -%}
    {{- return({'words': 'the columns are not those that the last run saw. `dbt-posthog-sync run` stages by itself, and makes the new ones known.', 'aloud': true}) -}}
  {%- endif -%}
  {{- return(none) -}}
{% endmacro %}

{# True when a column that the sync reads is gone or of another type, or where all are sent, when any differs. #}
{% macro has_other_columns(row, relation) %}
  {%- set known, found = fromjson(row['known_columns']), {} -%}
  {%- for column in run_query(dbt_posthog_sync.describe_columns(relation)).rows -%}
    {%- do found.update({column[0]: column[1] | string}) -%}
  {%- endfor -%}
  {%- for name, type in known.columns.items() if found.get(name) != type -%}{{- return(true) -}}{%- endfor -%}
  {{- return(known.are_all and known.columns | length != found | length) -}}
{% endmacro %}

{# Which of the tables are missing, or may not be read, or (those of `written`) not be written. #}
{% macro unusable(schema, tables, written) %}
  {%- set usable = [] -%}
  {%- for row in run_query(dbt_posthog_sync.usable_tables(schema, tables, written)).rows -%}{%- do usable.append(row[0]) -%}{%- endfor -%}
  {{- return(tables | reject('in', usable) | list) -}}
{% endmacro %}

{% macro usable_tables(schema, tables, written) %}{{ return(adapter.dispatch('usable_tables', 'dbt_posthog_sync')(schema, tables, written)) }}{% endmacro %}
{% macro default__usable_tables(schema, tables, written) %}
  select table_name from information_schema.tables
  where table_schema = {{ dbt_posthog_sync.literal(schema) }} and table_catalog = {{ dbt_posthog_sync.literal(dbt_posthog_sync.target_database()) }}
    and table_name in ({{ dbt_posthog_sync.literals(tables) }})
{% endmacro %}
{# Asks for rights by number, which never fails: an error would be the end of the build's transaction. #}
{% macro postgres__usable_tables(schema, tables, written) %}
  select cast(c.relname as text) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = {{ dbt_posthog_sync.literal(schema) }} and c.relkind = 'r' and c.relname in ({{ dbt_posthog_sync.literals(tables) }})
    and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
    and (c.relname not in ({{ dbt_posthog_sync.literals(written) }})
      or (has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'delete')))
    and has_database_privilege(current_database(), 'temporary') and has_language_privilege('plpgsql', 'usage')
{% endmacro %}

{% macro literals(texts) %}
  {%- set parts = [] -%}
  {%- for text in texts -%}{%- do parts.append(dbt_posthog_sync.literal(text)) -%}{%- endfor -%}
  {{- return(parts | join(', ')) -}}
{% endmacro %}

{# False where the build's transaction could not write to the state schema beside the model. #}
{% macro writes_beside(relation) %}{{ return(adapter.dispatch('writes_beside', 'dbt_posthog_sync')(relation)) }}{% endmacro %}
{% macro default__writes_beside(relation) %}{{ return(true) }}{% endmacro %}
{# One transaction of DuckDB writes to one attached database (DuckDB documentation: Attach). #}
{% macro duckdb__writes_beside(relation) %}{{ return(relation.database == dbt_posthog_sync.target_database()) }}{% endmacro %}

{# The sync as the staging macros want it: what the command line left, with the tables that hold by now. #}
{% macro hooked_sync(row, relation) %}
  {%- set sync = fromjson(row['arguments']) -%}
  {%- set window = fromjson(row['window_start']) if row['window_start'] and sync.cursor else none -%}
  {%- set tables = sync.tables -%}
  {%- do tables.update({
    'base': {'name': row['base_table'], 'temporary': false}, 'log': {'name': row['log_table'], 'temporary': false},
    'built': {'name': row['rows_table'], 'temporary': false}, 'previous': {'name': row['changes_table'], 'temporary': false},
    'pending': {'name': tables.diff.name ~ '_log', 'temporary': true}, 'real_log': {'name': row['log_table'], 'temporary': false}}) -%}
  {%- do sync.update({
    'id': row['sync_id'], 'digest': row['digest'], 'keeps_every': row['keeps_every'],
    'staging_id': invocation_id ~ '/' ~ modules.datetime.datetime.now(modules.pytz.utc).isoformat() ~ '/' ~ row['sync_id'],
    'epoch': row['epoch'] or 0, 'has_rejects': row['has_rejects'], 'has_erased': row['has_erased'],
    'window_start': window[1] if window and window[0] == sync.cursor.name else none,
    'has_builds': row['builds'] > 0, 'is_settled': row['is_settled'], 'live_keys': row['live_keys'],
    'copies_staging_time': row['changes_table'] is not none and sync.object in ['person', 'group']}) -%}
  {{- return(sync) -}}
{% endmacro %}

{# Stage: the diff, then, where it found anything, the rows; both as a run does it in temporary tables. #}
{% macro stage_build(sync) %}
  {%- set outcome = dbt_posthog_sync.under_guard(dbt_posthog_sync.diff_statements(sync), dbt_posthog_sync.read_diff_of_build(sync)) -%}
  {%- if outcome.failure -%}{{- return(outcome) -}}{%- endif -%}
  {%- set found = outcome.result.split(' ') -%}
  {%- do sync.update({'has_null_keys': found[1] | int > 0, 'has_changes': found[0] | int > 0,
    'may_have_removed': not sync.keeps_identity and not sync.window_start and not sync.keeps_every
      and (not sync.is_settled or found[2] | int != sync.live_keys)}) -%}
  {%- set outcome = dbt_posthog_sync.under_guard(dbt_posthog_sync.build_statements(sync), dbt_posthog_sync.count_built(sync)) -%}
  {{- return({'failure': outcome.failure, 'rows': outcome.result}) -}}
{% endmacro %}

{% macro diff_statements(sync) %}
  {%- set statements = [dbt_posthog_sync.drop_temporary(sync, 'diff'), dbt_posthog_sync.drop_temporary(sync, 'pending')] -%}
  {%- if sync.keeps_every and sync.has_builds -%}
    {%- do statements.append(dbt_posthog_sync.log_with_builds(sync)) -%}
    {%- do sync.tables.update({'log': sync.tables.pending}) -%}
  {%- endif -%}
  {%- do statements.append(dbt_posthog_sync.diff(sync)) -%}
  {{- return(statements) -}}
{% endmacro %}

{% macro build_statements(sync) %}
  {%- set statements = [dbt_posthog_sync.drop_temporary(sync, 'changes'), dbt_posthog_sync.drop_temporary(sync, 'removed')] -%}
  {%- if not sync.keeps_every -%}
    {%- do statements.extend([dbt_posthog_sync.forget_rows_of_builds(sync), dbt_posthog_sync.forget_builds_of_sync(sync)]) -%}
  {%- endif -%}
  {%- if sync.has_changes -%}
    {%- do statements.extend([dbt_posthog_sync.gather_statistics(sync, 'diff'), dbt_posthog_sync.stage(sync)] | select) -%}
    {%- if sync.keeps_every -%}{%- do statements.append(dbt_posthog_sync.reject_duplicates(sync)) -%}{%- endif -%}
    {%- do statements.append(dbt_posthog_sync.keep_rows(sync) if sync.keeps_every else dbt_posthog_sync.keep_keys(sync)) -%}
  {%- endif -%}
  {%- if sync.may_have_removed -%}
    {%- do statements.extend([dbt_posthog_sync.stage_removed(sync), dbt_posthog_sync.keep_removed(sync)]) -%}
  {%- endif -%}
  {%- do statements.append(dbt_posthog_sync.insert_build(sync)) -%}
  {%- for part in ['changes', 'removed', 'diff', 'pending'] -%}{%- do statements.append(dbt_posthog_sync.drop_temporary(sync, part)) -%}{%- endfor -%}
  {{- return(statements) -}}
{% endmacro %}

{% macro drop_temporary(sync, part) %}drop table if exists {{ dbt_posthog_sync.sync_table(sync, part) }}{% endmacro %}

{# Run statements and a query of one value, with the session as a run has it, and as it was before afterwards. Returns
   `failure` (a code, or none) and `result` as text. #}
{% macro under_guard(statements, query) %}{{ return(adapter.dispatch('under_guard', 'dbt_posthog_sync')(statements, query)) }}{% endmacro %}
{% macro default__under_guard(statements, query) %}
  {%- for statement in statements -%}{%- do run_query(statement) -%}{%- endfor -%}
  {{- return({'failure': none, 'result': run_query(query).rows[0][0] | string}) -}}
{% endmacro %}

{% macro duckdb__under_guard(statements, query) %}
  {%- set zones = run_query("select value from duckdb_settings() where name = 'TimeZone' and value <> 'UTC'").rows -%}
  {%- if zones -%}{%- do run_query("set timezone = 'UTC'") -%}{%- endif -%}
  {%- set outcome = dbt_posthog_sync.default__under_guard(statements, query) -%}
  {%- if zones -%}{%- do run_query('set timezone = ' ~ dbt_posthog_sync.literal(zones[0][0])) -%}{%- endif -%}
  {{- return(outcome) -}}
{% endmacro %}

{# One function does it all: its block takes back what a failure left, and its settings end with it. A statement that is
   cancelled (by statement_timeout) counts as a failure too, and nobody waits long for a lock. #}
{% macro postgres__under_guard(statements, query) %}
  {%- set tag = '$dbt_posthog_sync_hook$' -%}
  {%- set own = dbt_posthog_sync.postgres__session_functions() -%}
  {%- set function %}
    create or replace function pg_temp.dbt_posthog_sync_hook() returns text language plpgsql
      set timezone to 'UTC' set datestyle to 'ISO, MDY' set intervalstyle to 'iso_8601' set extra_float_digits to 1
      set standard_conforming_strings to on set lock_timeout to '5s' set client_min_messages to warning as {{ tag }}
    declare
      result text;
    begin
      begin
        {%- for statement in own + statements %}
        execute {{ dbt_posthog_sync.literal(statement) }};
        {%- endfor %}
        execute {{ dbt_posthog_sync.literal(query) }} into result;
        return 'ok ' || coalesce(result, '');
      exception when query_canceled or assert_failure or others then
        return 'failure ' || sqlstate;
      end;
    end {{ tag }}
  {%- endset -%}
  {%- do run_query(function) -%}
  {%- set answer = run_query('select pg_temp.dbt_posthog_sync_hook()').rows[0][0] -%}
  {%- set kind, _, words = answer.partition(' ') -%}
  {{- return({'failure': words if kind == 'failure' else none, 'result': words}) -}}
{% endmacro %}
