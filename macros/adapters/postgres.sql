{# Postgres 14 and later. #}

{# Messages are built by parallel workers only where handing a row over is thought to cost little, and only where an
   expression has no correlated subquery: hence the temporary functions, which need no right but that to temporary tables.
   Where it is thought to cost nothing, all rows are handed over before they are compared with the log. #}
{% macro postgres__session_settings() %}
  {{- return([
    "set time zone 'UTC'", "set client_encoding to 'UTF8'", "set statement_timeout to 0",
    "set idle_in_transaction_session_timeout to 0", "set datestyle to 'ISO, MDY'", "set intervalstyle to 'iso_8601'",
    "set extra_float_digits to 1", "set standard_conforming_strings to on", "set quote_all_identifiers to off",
    "set parallel_tuple_cost to 0.01",
  ] + dbt_posthog_sync.postgres__session_functions()) -}}
{% endmacro %}

{# Functions that messages are built with; they end with the session. #}
{% macro postgres__session_functions() %}
  {{- return([
    dbt_posthog_sync.postgres__numbers_function(), dbt_posthog_sync.postgres__escapes_function(),
    dbt_posthog_sync.postgres__json_function(),
  ]) -}}
{% endmacro %}

{% macro postgres__one_view_of_the_data() %}{{ return('set transaction isolation level repeatable read') }}{% endmacro %}

{% macro postgres__clock() %}{{ return('clock_timestamp()') }}{% endmacro %}

{% macro postgres__type_key(type) %}
  {%- if type.family in ('text', 'enum') -%}{{- return('text') -}}
  {%- elif type.family in ('integer', 'bigint') -%}{{- return('bigint') -}}
  {%- elif type.family == 'decimal' -%}{{- return('numeric') -}}{%- endif -%}
  {{- return(type.family) -}}
{% endmacro %}

{# Domains count as what they stand for, enums as `enum`, arrays as their element with brackets; citext goes by its own
   name, whatever schema it was installed in. #}
{% macro postgres__describe_columns(relation) %}
  with recursive domains as (
    select oid as type, typbasetype as base from pg_type where typtype = 'd'
    union all
    select d.type, t.typbasetype from domains d join pg_type t on t.oid = d.base and t.typtype = 'd'
  ), bases as (
    select d.type, d.base from domains d join pg_type t on t.oid = d.base and t.typtype <> 'd'
  )
  select a.attname,
    case when e.oid is not null and t.typcategory = 'A' then {{ dbt_posthog_sync.postgres__type_name('e', 'null') }} || '[]'
      else {{ dbt_posthog_sync.postgres__type_name('t', 'case when t.oid = a.atttypid then a.atttypmod end') }} end,
    coalesce(not l.collisdeterministic, false)
  from pg_attribute a
  left join bases b on b.type = a.atttypid
  join pg_type t on t.oid = coalesce(b.base, a.atttypid)
  left join bases eb on eb.type = t.typelem
  left join pg_type e on e.oid = coalesce(eb.base, t.typelem)
  left join pg_collation l on l.oid = a.attcollation
  where a.attrelid = {{ dbt_posthog_sync.literal(relation) }}::regclass and a.attnum > 0 and not a.attisdropped
  order by a.attnum
{% endmacro %}

{# Name of a row of pg_type as `ColumnType` reads it. #}
{% macro postgres__type_name(alias, modifier) %}
  case when {{ alias }}.typtype = 'e' then 'enum'
    when {{ alias }}.typtype = 'c' then 'composite type ' || {{ alias }}.typname
    when {{ alias }}.typname = 'citext' then 'citext'
    else format_type({{ alias }}.oid, {{ modifier }}) end
{%- endmacro %}

{# --- hash --- #}

{# Stable within a major version; the canary notices a change (PostgreSQL: src/backend/utils/adt/rowtypes.c). The seed
   stands in the row as well, because a record of nulls has the same hash under every seed. #}
{% macro postgres__hash_name() %}{{ return('postgres hash_record_extended of seed and columns') }}{% endmacro %}
{% macro postgres__hash_canary() %}hash_record_extended(row(1::bigint, 'canary'::text, 1.5::numeric, null::text), 0)::text{% endmacro %}

{% macro postgres__row_hash(columns, seed) %}
  {%- if not columns -%}{{- return('cast(' ~ seed ~ ' as bigint)') -}}{%- endif -%}
  {%- set parts = [seed ~ '::bigint'] -%}
  {%- for column in columns -%}
    {%- set expression = dbt_posthog_sync.model_column(column) -%}
    {%- do parts.append('(' ~ expression ~ '::text collate "C")' if column.hash_as_text else expression) -%}
  {%- endfor -%}
  {{- return('hash_record_extended(row(' ~ (parts | join(', ')) ~ '), 0)') -}}
{% endmacro %}

{% macro postgres__text_hash(expression) %}{{ return('hashtextextended(' ~ expression ~ ', 0)') }}{% endmacro %}

{# An append over an empty branch keeps the planner from moving the hash above the join, where it would carry whole rows,
   and unlike other fences it keeps the plan parallel. #}
{% macro postgres__pinned(sync, key, hash) %}
  {{ dbt_posthog_sync.default__pinned(sync, key, hash) }}
  union all
  select sync_key, row_hash from {{ dbt_posthog_sync.sync_table(sync, 'log') }} where epoch < 0
{% endmacro %}

{# The planner sorts all rows to collapse them, because it takes the keys of the unchanged ones for as many groups. So only
   the others are grouped, and all are counted: a scan of a table without its columns, in the same statement and so in the
   same view of the data. A view would be worked out twice, and a window that no index finds be looked for twice. `in` lets
   the planner expect few of them, `<>` nearly all. #}
{% macro postgres__counted_kinds(sync) %}
  {%- if not sync.is_stored or sync.window_start or sync.only_rejects -%}{{- return(dbt_posthog_sync.default__counted_kinds(sync)) -}}{%- endif -%}
  {%- set identity = dbt_posthog_sync.compares_identity(sync) -%}
  {%- set kind = dbt_posthog_sync.kind -%}
  with differing as (
    select kind, sync_key, count(*) as row_count
    {%- if identity %}, max(case when kind = {{ kind('changed') }} then delivered_identity end) as delivered_identity{% endif %}
    from ({{ dbt_posthog_sync.compared_rows(sync) }}) compared
    where kind in ({{ kind('added') }}, {{ kind('changed') }}) group by kind, sync_key
  )
  select * from differing
  union all
  select {{ kind('unchanged') }}, null,
    ({{ dbt_posthog_sync.count_model(sync) }}) - coalesce((select sum(row_count) from differing), 0)::bigint{{ ', null' if identity }}
{% endmacro %}

{# Sorted by several processes, which a window function is not. #}
{% macro postgres__latest_log(sync, log) %}
  (select distinct on (sync_key) sync_key, row_hash, identity_hash, row_moment, origin
   from {{ log }} order by sync_key, epoch desc, origin)
{%- endmacro %}

{% macro postgres__bucket(expression, buckets) %}{{ return('(hashtext(' ~ expression ~ ') & ' ~ (buckets - 1) ~ ')') }}{% endmacro %}

{# Written as bytes, which are cut by counting, where a text is cut by looking at each character. #}
{% macro postgres__uuid_of(seed) %}
  {{- return("encode(overlay(overlay(overlay(overlay(cast(md5(" ~ seed ~ ") as bytea) placing '-' from 21 for 0) placing '-8' from 17 for 1)"
    ~ " placing '-5' from 13 for 1) placing '-' from 9 for 0), 'escape')") -}}
{% endmacro %}

{% macro postgres__is_marked(number, marks) %}
  {{- return("get_byte(cast('" ~ marks ~ "' as bytea), cast(" ~ number ~ " as integer)) = ascii('1')") -}}
{% endmacro %}

{% macro postgres__position_list(positions) %}
  {{- return("unnest(cast('{" ~ positions ~ "}' as bigint[])) as p(position)") -}}
{% endmacro %}

{# Equal texts are equal bytes, and bytes are sorted faster than words. #}
{% macro postgres__sortable(expression, type) %}
  {{- return(expression ~ ' collate "C"' if type.family in ('text', 'enum') else expression) -}}
{% endmacro %}

{# A scan passes each row on with all columns that are needed above it, and here that is one in a hundred. The planner takes
   an array for short, whatever is in it, so it always looks keys up in a table of hashes, which holds few of them well.
   Texts may be of any length, and a hash is not; what it lets through by chance, the join leaves out. #}
{% macro postgres__left_at_scan(sync, key) %}
  {%- if not sync.has_few_changes -%}{{- return('') -}}{%- endif -%}
  {%- set text_hash = dbt_posthog_sync.text_hash -%}
  {%- set model, diff = key, 'sync_key' -%}
  {%- if dbt_posthog_sync.type_key(sync.key.type) == 'text' -%}{%- set model, diff = text_hash(key), text_hash('sync_key') -%}{%- endif -%}
  where ({{ model }} in (select unnest(array_agg({{ diff }})) from {{ dbt_posthog_sync.sync_table(sync, 'diff') }} where sync_key is not null)) is true
{%- endmacro %}

{# Numbering rows is one process's work, and would make hashes and reasons that too. #}
{% macro postgres__computed_apart() %}{{ return('offset 0') }}{% endmacro %}

{# Staged rows lie in the order of their positions, so that a block range index is all they need: a few pages. #}
{% macro postgres__index_staged(sync) %}
  create index on {{ dbt_posthog_sync.sync_table(sync, 'changes') }} using brin (position) with (pages_per_range = 16)
{% endmacro %}

{# Autovacuum comes a minute late for the run that follows. #}
{% macro postgres__gather_statistics(sync, part) %}analyze {{ dbt_posthog_sync.sync_table(sync, part) }}{% endmacro %}

{# A table that is read just now stays, to be dropped by a later run. Autovacuum gives way, but only after a second (PostgreSQL
   documentation: deadlock_timeout), and a log of millions of rows has it at work. #}
{% macro postgres__drop_unread(table) %}
  {%- set statement = dbt_posthog_sync.literal('drop table if exists ' ~ table) -%}
  do $drop_unread$
  declare
    usual text := current_setting('lock_timeout');
  begin
    perform set_config('lock_timeout', '1500ms', true);
    execute {{ statement }};
    perform set_config('lock_timeout', usual, true);
  exception when lock_not_available then
    null;  -- the setting is back as well
  end $drop_unread$
{% endmacro %}

{# A temporary table is read by one process alone, and the model that is joined with it as well (PostgreSQL
   documentation: Parallel Safety). #}
{% macro postgres__scratch_kind() %}{{ return('unlogged table') }}{% endmacro %}

{# --- streaming --- #}

{% macro postgres__stream_method() %}{{ return('copy') }}{% endmacro %}

{# JSON text holds no control characters, so these separators need no escaping and no unescaping. #}
{% macro postgres__stream_statement(select) %}
  copy ({{ select }}) to stdout with (format csv, delimiter E'\x1f', quote E'\x1e', null E'\x1d')
{% endmacro %}

{% macro postgres__utf16_length(expression) %}
  {{- return("length(" ~ expression ~ ") + length(regexp_replace(" ~ expression ~ ", '[^\\U00010000-\\U0010FFFF]', '', 'g'))") -}}
{% endmacro %}

{# A decimal is written without zeros at its end, an address without the mask that a cast adds to it. #}
{% macro postgres__canonical_text(expression, type) %}
  {%- if type.family == 'decimal' -%}{{- return('trim_scale(' ~ expression ~ ')::text') -}}
  {%- elif type.text == 'inet' -%}{{- return('abbrev(cast(' ~ expression ~ ' as inet))') -}}{%- endif -%}
  {{- return(dbt_posthog_sync.as_text(expression)) -}}
{% endmacro %}

{# --- JSON --- #}

{% macro postgres__json_text(expression) %}{{ return('pg_temp.dbt_posthog_sync_json(' ~ expression ~ ')::text') }}{% endmacro %}

{# `to_json` looks up the type of its argument for every row; what the SQL standard has in its place does so once for a
   statement, from Postgres 17 on. The planner puts the body of the function in its place. #}
{% macro postgres__json_function() %}
  {%- set function = "create or replace function pg_temp.dbt_posthog_sync_json(value anyelement) returns json language sql stable parallel safe as " -%}
  do $json_function$ begin
    if current_setting('server_version_num')::int >= 170000
    then execute {{ dbt_posthog_sync.literal(function ~ "'select json_scalar($1)'") }};
    else execute {{ dbt_posthog_sync.literal(function ~ "'select to_json($1)'") }};
    end if;
  end $json_function$
{%- endmacro %}

{% macro postgres__first_match(expression, pattern) %}
  {{- return("nullif(substring(" ~ expression ~ " from " ~ dbt_posthog_sync.literal(pattern) ~ "), '')") -}}
{% endmacro %}

{# 15 significant digits survive a double, and a double's text in Postgres has at most 15 when cast to numeric. #}
{% macro postgres__json_decimal(expression, type, time_zone) %}
  {%- if type.digits and type.digits <= 15 -%}
    {{- return("case when " ~ expression ~ " <> 'NaN' then " ~ expression ~ "::text end") -}}
  {%- endif -%}
  {{- return("case when " ~ expression ~ " in ('NaN', 'Infinity', '-Infinity') then null"
    ~ " when " ~ expression ~ " = 0 then '0'"
    ~ " when abs(" ~ expression ~ ") not between 1e-300 and 1e308 then '\"' || " ~ expression ~ "::text || '\"'"
    ~ " when " ~ expression ~ "::float8::numeric = " ~ expression ~ " or (abs(" ~ expression ~ ") <= 9007199254740992 and "
    ~ expression ~ " = trunc(" ~ expression ~ ")) then case when abs(" ~ expression ~ ") between 1e-15 and 1e18 then " ~ expression
    ~ "::text else " ~ expression ~ "::float8::text end"
    ~ " when " ~ expression ~ " is not null then '\"' || " ~ expression ~ "::text || '\"' end") -}}
{% endmacro %}

{% macro postgres__json_float(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " not in ('NaN', 'Infinity', '-Infinity') then " ~ expression ~ "::text end") -}}
{% endmacro %}

{# The session's style is ISO 8601: P1Y2M3DT4H5M6.5S. #}
{% macro postgres__json_interval(expression, type, time_zone) %}
  {{- return("case when isfinite(" ~ expression ~ ") then '\"' || " ~ expression ~ "::text || '\"' end") -}}
{% endmacro %}

{% macro postgres__json_date(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " between '0001-01-01' and '9999-12-31' then '\"' || to_char(" ~ expression ~ ", 'YYYY-MM-DD') || '\"' end") -}}
{% endmacro %}

{# A value that no zone can shift, because it lies outside the years 1 to 9999, is no moment. #}
{% macro postgres__moment(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}{{- return(expression) -}}{%- endif -%}
  {{- return("(case when " ~ expression ~ " >= '0001-01-01' and " ~ expression ~ " < '10000-01-01' then " ~ expression
    ~ " end::timestamp at time zone " ~ dbt_posthog_sync.literal(time_zone) ~ ")") -}}
{% endmacro %}

{# A timestamp column in UTC, without zone. #}
{% macro postgres__utc(expression, type, time_zone) %}
  {%- if type.family == 'timestamp' and time_zone == 'UTC' -%}{{- return(expression) -}}{%- endif -%}
  {{- return('(' ~ dbt_posthog_sync.moment(expression, type, time_zone) ~ " at time zone 'UTC')") -}}
{% endmacro %}

{% macro postgres__has_time(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}
    {{- return('(' ~ expression ~ " >= timestamptz '0001-01-01T00:00:00Z' and " ~ expression ~ " < timestamptz '10000-01-01T00:00:00Z')") -}}
  {%- endif -%}
  {%- set utc = dbt_posthog_sync.postgres__utc(expression, type, time_zone) -%}
  {{- return('(' ~ utc ~ " >= '0001-01-01' and " ~ utc ~ " < '10000-01-01')") -}}
{% endmacro %}

{% macro postgres__json_timestamp(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.postgres__has_time(expression, type, time_zone) ~ " then left("
    ~ dbt_posthog_sync.postgres__json_text(dbt_posthog_sync.postgres__utc(expression, type, time_zone)) ~ ", -1) || 'Z\"' end") -}}
{% endmacro %}

{# The session's style is ISO 8601: 2026-01-02. #}
{% macro postgres__day_text(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.postgres__has_time(expression, type, time_zone) ~ " then "
    ~ dbt_posthog_sync.postgres__utc(expression, type, time_zone) ~ "::date::text end") -}}
{% endmacro %}

{% macro postgres__moment_text(expression) %}
  {{- return("(to_json(" ~ expression ~ " at time zone 'UTC') #>> '{}' || 'Z')") -}}
{% endmacro %}

{% macro postgres__json_json(expression, type, time_zone) %}
  {{- return("nullif(" ~ dbt_posthog_sync.postgres__safe_numbers('(' ~ expression ~ '::text)', '[0-9.]{16}') ~ ", 'null')") -}}
{% endmacro %}

{% macro postgres__json_json_text(expression, type, time_zone) %}
  {%- set flat = "translate(" ~ expression ~ "::text, " ~ dbt_posthog_sync.json_spaces() ~ ")" -%}
  {{- return("nullif(trim(" ~ dbt_posthog_sync.postgres__safe_numbers('(' ~ dbt_posthog_sync.postgres__safe_escapes(flat) ~ ')') ~ "), 'null')") -}}
{% endmacro %}

{# Escapes are taken apart into a list: pairs of surrogates stay, halves and NUL become U+FFFD. #}
{% macro postgres__safe_escapes(text) %}
  {{- return("case when strpos(" ~ text ~ ", '\\u') > 0 then pg_temp.dbt_posthog_sync_safe_escapes(" ~ text ~ ") else " ~ text ~ " end") -}}
{% endmacro %}

{% macro postgres__escapes_function() %}
  {%- set token = "'(\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\\\u[0-9a-fA-F]{4}|\\\\[^u]|[^\\\\]+)'" -%}
  {{- return(dbt_posthog_sync.postgres__text_function("safe_escapes",
    "select string_agg(case when token[1] ~ '^\\\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})$' then '\\ufffd' else token[1] end, '' order by place)"
    ~ " from regexp_matches(document, " ~ token ~ ", 'g') with ordinality as found(token, place)")) -}}
{% endmacro %}

{# Numbers inside a document that a double cannot hold become strings. Only a document that has a long number, or an
   exponent, which jsonb never prints, is taken apart. #}
{% macro postgres__safe_numbers(text, suspicious='[0-9.]{16}|[0-9][eE][-+]?[0-9]{3}') %}
  {{- return("case when " ~ text ~ " ~ '" ~ suspicious ~ "' then pg_temp.dbt_posthog_sync_safe_numbers(" ~ text ~ ") else " ~ text ~ " end") -}}
{% endmacro %}

{# The order of the tests keeps casts from meeting numbers that they refuse. #}
{% macro postgres__numbers_function() %}
  {%- set token = "'(\"(?:[^\"\\\\]|\\\\.)*\"|-?[0-9][0-9.eE+-]*|[^\"0-9-]+|-)'" -%}
  {%- set digits = dbt_posthog_sync.significant_digits -%}
  {{- return(dbt_posthog_sync.postgres__text_function("safe_numbers", "select string_agg(case"
    ~ " when token[1] !~ '^-?[0-9]' then token[1]"
    ~ " when case when token[1] ~ '^-?[0-9]+$' then "
    ~ dbt_posthog_sync.is_plain_integer("length(token[1]) <= 17", "abs(token[1]::numeric)", "token[1]")
    ~ " when length(token[1]) > 1000 or token[1] ~ '[eE][-+]?[0-9]{4}' then false"
    ~ " when token[1]::numeric = 0 then true"
    ~ " when abs(token[1]::numeric) not between 5e-324 and 1.7976931348623157e308 then false"
    ~ " else " ~ digits("token[1]::float8::text") ~ " = " ~ digits("token[1]") ~ " end then token[1]"
    ~ " else '\"' || token[1] || '\"' end, '' order by place)"
    ~ " from regexp_matches(document, " ~ token ~ ", 'g') with ordinality as found(token, place)")) -}}
{% endmacro %}

{# A function of one text for this session. A correlated subquery would do the same, and keep every statement that has it
   from being worked at by several processes (PostgreSQL documentation: Parallel Safety). #}
{% macro postgres__text_function(name, body) %}
  {{- return("create or replace function pg_temp.dbt_posthog_sync_" ~ name ~ "(document text) returns text"
    ~ " language sql immutable strict parallel safe as $body$ " ~ body ~ " $body$") -}}
{% endmacro %}

{# Element by element in one pass; in an array of several dimensions an element that begins or ends a row of one of them
   carries its bracket. #}
{% macro postgres__json_array(expression, type, time_zone) %}
  {%- set element = "coalesce(" ~ dbt_posthog_sync.json_of('element', type.element, time_zone) ~ ", 'null')" -%}
  {%- set elements = " order by place) from unnest(" ~ expression ~ ") with ordinality as elements(element, place))" -%}
  {%- set opened = "repeat('[', " ~ dbt_posthog_sync.postgres__row_edges(expression, 'place - 1') ~ ")" -%}
  {%- set closed = "repeat(']', " ~ dbt_posthog_sync.postgres__row_edges(expression, 'place') ~ ")" -%}
  {{- return("case when array_ndims(" ~ expression ~ ") > 1 then '[' || (select string_agg(" ~ opened ~ " || " ~ element ~ " || " ~ closed
    ~ ", ','" ~ elements ~ " || ']' when " ~ expression ~ " is not null then '[' || coalesce((select string_agg(" ~ element
    ~ ", ','" ~ elements ~ ", '') || ']' end") -}}
{% endmacro %}

{# How many inner dimensions (Postgres has six) have an edge after so many elements. #}
{% macro postgres__row_edges(expression, elements) %}
  {%- set parts = [] -%}
  {%- for dimension in range(2, 7) -%}
    {%- set lengths = [] -%}
    {%- for inner in range(dimension, 7) -%}
      {%- do lengths.append("coalesce(array_length(" ~ expression ~ ", " ~ inner ~ "), 1)") -%}
    {%- endfor -%}
    {%- do parts.append("case when array_ndims(" ~ expression ~ ") >= " ~ dimension ~ " and (" ~ elements ~ ") % ("
      ~ (lengths | join(' * ')) ~ ") = 0 then 1 else 0 end") -%}
  {%- endfor -%}
  {{- return(parts | join(' + ')) -}}
{% endmacro %}

{% macro postgres__json_member(expression, name) %}
  {{- return("(" ~ expression ~ "::jsonb ->> " ~ dbt_posthog_sync.literal(name) ~ ")") -}}
{% endmacro %}

{% macro postgres__rows_of_json(rows, columns) %}
  (select {% for number in range(columns) %}r ->> {{ number }} as c{{ number }}{{ ', ' if not loop.last }}{% endfor %}
   from json_array_elements({{ dbt_posthog_sync.literal(rows) }}::json) as j(r))
{%- endmacro %}

{% macro postgres__part_of(expression, parts) %}{{ return('((hashtext(' ~ expression ~ ') & 2147483647) % ' ~ parts ~ ')') }}{% endmacro %}
