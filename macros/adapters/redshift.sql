{# Redshift. dbt counts it among the Postgres, so that every macro of Postgres has its own here, be it only the default. A text
   has at most 65,535 bytes, and so has a message. #}

{% macro redshift__session_settings() %}
  {{- return(["set timezone to 'UTC'", "set datestyle to 'ISO, MDY'", 'set statement_timeout to 0']) -}}
{% endmacro %}

{# Every transaction sees one state (Redshift documentation: Serializable and snapshot isolation). #}
{% macro redshift__relation_identity(relation) %}{{ return(dbt_posthog_sync.default__relation_identity(relation)) }}{% endmacro %}
{% macro redshift__usable_tables(schema, tables, written) %}{{ return(dbt_posthog_sync.default__usable_tables(schema, tables, written)) }}{% endmacro %}
{% macro redshift__under_guard(statements, query) %}{{ return(dbt_posthog_sync.default__under_guard(statements, query)) }}{% endmacro %}
{% macro redshift__scratch_kind() %}{{ return(dbt_posthog_sync.default__scratch_kind()) }}{% endmacro %}
{% macro redshift__one_view_of_the_data() %}{{ return('') }}{% endmacro %}
{% macro redshift__probe_create_schema(schema) %}{{ return(dbt_posthog_sync.postgres__probe_create_schema(schema)) }}{% endmacro %}

{# `current_timestamp` is known to the leader node alone. #}
{% macro redshift__statement_time() %}{{ return('cast(getdate() as timestamptz)') }}{% endmacro %}
{% macro redshift__clock() %}{{ return(dbt_posthog_sync.statement_time()) }}{% endmacro %}
{% macro redshift__shifted(moment, direction, number, unit) %}
  {{- return('dateadd(' ~ unit ~ ', ' ~ ('-' if direction == '-' else '') ~ number ~ ', ' ~ moment ~ ')') -}}
{% endmacro %}
{% macro redshift__seconds_since(moment) %}datediff(second, {{ moment }}, {{ dbt_posthog_sync.clock() }}){% endmacro %}

{# A backslash begins an escape. #}
{% macro redshift__literal(text) %}{{ return("'" ~ (text | string | replace('\\', '\\\\') | replace("'", "''")) ~ "'") }}{% endmacro %}

{% macro redshift__type_text() %}{{ return('varchar(65535)') }}{% endmacro %}

{% macro redshift__type_key(type) %}
  {%- if type.family == 'text' -%}{{- return('varchar(65535)') -}}
  {%- elif type.family in ('integer', 'bigint') -%}{{- return('bigint') -}}{%- endif -%}
  {{- return(type.text | lower) -}}
{% endmacro %}

{% macro redshift__type_names() %}{{ return({'super': 'jsonb', 'interval': 'unsupported'}) }}{% endmacro %}

{% macro redshift__describe_columns(relation) %}
  {%- set parts = (relation | string | replace('"', '')).split('.') -%}
  select column_name, case when data_type = 'numeric' then 'numeric(' || numeric_precision || ',' || numeric_scale || ')' else data_type end, false
  from svv_columns where table_schema = {{ dbt_posthog_sync.literal(parts[-2]) }} and table_name = {{ dbt_posthog_sync.literal(parts[-1]) }}
  order by ordinal_position
{% endmacro %}

{% macro redshift__read_tables_of(schema, prefix) %}
  select table_name from svv_tables
  where table_schema = {{ dbt_posthog_sync.literal(schema) }} and substring(table_name, 1, {{ prefix | length }}) = {{ dbt_posthog_sync.literal(prefix) }}
{% endmacro %}

{# --- hash --- #}

{# FarmHash Fingerprint64, which never changes, of the fingerprints of the columns. #}
{% macro redshift__hash_name() %}{{ return('redshift farmfingerprint64 of seed and columns') }}{% endmacro %}
{% macro redshift__hash_canary() %}cast(farmfingerprint64('1|' || cast(farmfingerprint64('canary') as varchar) || '|-') as varchar){% endmacro %}

{% macro redshift__row_hash(columns, seed) %}
  {%- set parts = ["'" ~ seed ~ "'"] -%}
  {%- for column in columns -%}
    {%- do parts.append("coalesce(cast(farmfingerprint64(" ~ dbt_posthog_sync.redshift__plain_text(dbt_posthog_sync.model_column(column), column.type) ~ ") as varchar), '-')") -%}
  {%- endfor -%}
  {{- return('farmfingerprint64(' ~ dbt_posthog_sync.joined(parts, " || '|' || ") ~ ')') -}}
{% endmacro %}

{# A boolean and a document have no cast to text. #}
{% macro redshift__plain_text(expression, type) %}
  {%- if type.family == 'boolean' -%}{{- return("case when " ~ expression ~ " then 'true' when not " ~ expression ~ " then 'false' end") -}}
  {%- elif type.family == 'json' -%}{{- return('json_serialize(' ~ expression ~ ')') -}}{%- endif -%}
  {{- return(dbt_posthog_sync.as_text(expression)) -}}
{% endmacro %}

{% macro redshift__text_hash(expression) %}{{ return('farmfingerprint64(' ~ expression ~ ')') }}{% endmacro %}
{% macro redshift__bucket(expression, buckets) %}{{ return('abs(mod(farmfingerprint64(' ~ expression ~ '), ' ~ buckets ~ '))') }}{% endmacro %}
{% macro redshift__part_of(expression, parts) %}{{ return('abs(mod(farmfingerprint64(' ~ expression ~ '), ' ~ parts ~ '))') }}{% endmacro %}
{% macro redshift__uuid_of(seed) %}{{ return(dbt_posthog_sync.uuid_of_digest('md5(' ~ seed ~ ')')) }}{% endmacro %}

{# No text is long enough for all marks or positions: they are a list of numbers. #}
{% macro redshift__is_marked(number, marks) %}
  {%- set wanted = [] -%}
  {%- for mark in marks -%}{%- if mark == '1' -%}{%- do wanted.append(loop.index0 | string) -%}{%- endif -%}{%- endfor -%}
  {{- return(number ~ ' in (' ~ (wanted | join(', ')) ~ ')') -}}
{% endmacro %}
{% macro redshift__is_listed(position, positions) %}{{ return(position ~ ' in (' ~ positions ~ ')') }}{% endmacro %}

{% macro redshift__pinned(sync, key, hash) %}{{ return(dbt_posthog_sync.default__pinned(sync, key, hash)) }}{% endmacro %}
{% macro redshift__counted_kinds(sync) %}{{ return(dbt_posthog_sync.default__counted_kinds(sync)) }}{% endmacro %}
{% macro redshift__latest_log(sync, log) %}{{ return(dbt_posthog_sync.default__latest_log(sync, log)) }}{% endmacro %}
{% macro redshift__sortable(expression, type) %}{{ return(expression) }}{% endmacro %}
{% macro redshift__left_at_scan(sync, key) %}{{ return('') }}{% endmacro %}
{% macro redshift__computed_apart() %}{{ return('') }}{% endmacro %}
{% macro redshift__index_staged(sync) %}{{ return('') }}{% endmacro %}
{% macro redshift__gather_statistics(sync, part) %}{{ return('') }}{% endmacro %}
{% macro redshift__drop_unread(table) %}{{ return(dbt_posthog_sync.default__drop_unread(table)) }}{% endmacro %}
{# No row has a place here, as it has in Postgres. #}
{% macro redshift__read_has_places(relation) %}{{ return('') }}{% endmacro %}

{% macro redshift__stream_method() %}{{ return('rows') }}{% endmacro %}
{% macro redshift__stream_statement(select) %}{{ return(select) }}{% endmacro %}

{# A character counts twice where it has four bytes. #}
{% macro redshift__utf16_length(expression) %}
  {{- return("len(" ~ expression ~ ") + regexp_count(" ~ expression ~ ", '[\\\\x{10000}-\\\\x{10FFFF}]', 1, 'p')") -}}
{% endmacro %}

{# --- JSON --- #}

{# A decimal is written without zeros at its end. #}
{% macro redshift__canonical_text(expression, type) %}
  {%- set text = dbt_posthog_sync.as_text(expression) -%}
  {%- if type.family != 'decimal' -%}{{- return(text) -}}{%- endif -%}
  {{- return("case when strpos(" ~ text ~ ", '.') > 0 then rtrim(rtrim(" ~ text ~ ", '0'), '.') else " ~ text ~ " end") -}}
{% endmacro %}

{% macro redshift__json_text(expression) %}
  {{- return("case when " ~ expression ~ " is not null then json_serialize(cast(" ~ dbt_posthog_sync.as_text(expression) ~ " as super)) end") -}}
{% endmacro %}

{% macro redshift__first_match(expression, pattern) %}
  {{- return("nullif(regexp_substr(" ~ expression ~ ", " ~ dbt_posthog_sync.literal(pattern) ~ ", 1, 1, 'ep'), '')") -}}
{% endmacro %}

{% macro redshift__digits(text) %}
  {{- return("trim(both '0' from regexp_replace(regexp_replace(" ~ text ~ ", '[eE].*$', ''), '[^0-9]', ''))") -}}
{% endmacro %}

{# 15 significant digits survive a double. #}
{% macro redshift__json_decimal(expression, type, time_zone) %}
  {%- set text = dbt_posthog_sync.as_text(expression) -%}
  {%- if type.digits and type.digits <= 15 -%}{{- return(text) -}}{%- endif -%}
  {{- return("case when (abs(" ~ expression ~ ") <= 9007199254740992 and " ~ expression ~ " = trunc(" ~ expression ~ "))"
    ~ " or len(" ~ dbt_posthog_sync.redshift__digits(text) ~ ") <= 15 then " ~ text
    ~ " when " ~ expression ~ " is not null then '\"' || " ~ text ~ " || '\"' end") -}}
{% endmacro %}

{% macro redshift__json_float(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " not in (cast('NaN' as float8), cast('Infinity' as float8), cast('-Infinity' as float8)) then "
    ~ dbt_posthog_sync.as_text(expression) ~ " end") -}}
{% endmacro %}

{% macro redshift__json_date(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " between date '0001-01-01' and date '9999-12-31' then '\"' || to_char(" ~ expression ~ ", 'YYYY-MM-DD') || '\"' end") -}}
{% endmacro %}

{# A value that no zone can shift, because it lies outside the years 1 to 9999, is no moment. #}
{% macro redshift__moment(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}{{- return(expression) -}}{%- endif -%}
  {%- set local = 'cast(' ~ expression ~ ' as timestamp)' -%}
  {{- return("(case when " ~ dbt_posthog_sync.redshift__is_possible(local) ~ " then " ~ local ~ " end at time zone " ~ dbt_posthog_sync.literal(time_zone) ~ ")") -}}
{% endmacro %}

{% macro redshift__is_possible(local) %}
  {{- return("(" ~ local ~ " >= timestamp '0001-01-01 00:00:00' and " ~ local ~ " <= timestamp '9999-12-31 23:59:59.999999')") -}}
{% endmacro %}

{# A moment in UTC, without zone. #}
{% macro redshift__utc(moment) %}{{ return('(' ~ moment ~ " at time zone 'UTC')") }}{% endmacro %}

{% macro redshift__has_time(expression, type, time_zone) %}
  {{- return(dbt_posthog_sync.redshift__is_possible(dbt_posthog_sync.redshift__utc(dbt_posthog_sync.moment(expression, type, time_zone)))) -}}
{% endmacro %}

{% macro redshift__json_timestamp(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.redshift__has_time(expression, type, time_zone) ~ " then '\"' || "
    ~ dbt_posthog_sync.moment_text(dbt_posthog_sync.moment(expression, type, time_zone)) ~ " || '\"' end") -}}
{% endmacro %}

{% macro redshift__day_text(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.redshift__has_time(expression, type, time_zone) ~ " then to_char("
    ~ dbt_posthog_sync.redshift__utc(dbt_posthog_sync.moment(expression, type, time_zone)) ~ ", 'YYYY-MM-DD') end") -}}
{% endmacro %}

{# Without zeros at the end of a fraction, and without a fraction where there is none. #}
{% macro redshift__moment_text(expression) %}
  {{- return("rtrim(rtrim(to_char(" ~ dbt_posthog_sync.redshift__utc(expression) ~ ", 'YYYY-MM-DD\"T\"HH24:MI:SS.US'), '0'), '.') || 'Z'") -}}
{% endmacro %}

{# Numbers inside that a double cannot hold go out as they are kept. #}
{% macro redshift__json_json(expression, type, time_zone) %}{{ return('nullif(json_serialize(' ~ expression ~ "), 'null')") }}{% endmacro %}

{% macro redshift__json_member(expression, name) %}
  {{- return('cast(json_parse(cast(' ~ expression ~ ' as varchar(65535))).' ~ dbt_posthog_sync.quoted(name) ~ ' as varchar(65535))') -}}
{% endmacro %}

{% macro redshift__rows_of_json(rows, columns) %}
  (select {% for number in range(columns) %}cast(r[{{ number }}] as varchar(65535)) as c{{ number }}{{ ', ' if not loop.last }}{% endfor %}
   from (select json_parse({{ dbt_posthog_sync.literal(rows) }}) as d) s, s.d as r)
{%- endmacro %}
