{# The stream: staged rows joined back to the model, as ready-made message parts. #}

{# position, lane, message. A lane is odd where the event is historical. In the message, a control character that no JSON
   text has stands where the destination puts what all messages share (dbt_posthog_sync/destinations: SEAM). A row whose key
   or hash moved since staging does not come: `is true` keeps the hash out of what the tables are joined by, where it would
   be computed twice, and for every row. #}
{% macro message_stream(sync, resume=false) %}
  {%- if sync.build and sync.build.keeps_every -%}{{- return(dbt_posthog_sync.kept_messages(sync, resume)) -}}{%- endif %}
  select c.position, {{ dbt_posthog_sync.streamed_lane(sync) }} as lane, {{ dbt_posthog_sync.streamed_message(sync) }} as message
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c
  join {{ sync.relation }} m on {{ dbt_posthog_sync.key_expression(sync) }} = c.sync_key
    and {{ dbt_posthog_sync.certain(dbt_posthog_sync.row_hash(sync.hashed_columns, sync.hash_seed) ~ ' = c.row_hash') }}
  where c.reason is null
  {%- if resume %}
    {%- if sync.fans_out %}
    and not c.is_delivered
    {%- endif %}
    and not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'log') }} g
      where g.sync_key = c.sync_key and g.epoch = {{ sync.epoch }})
    and not exists (select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }} r
      where r.sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and r.last_run_id = {{ dbt_posthog_sync.literal(sync.run_id) }}
        and r.sync_key = {{ dbt_posthog_sync.as_text('c.sync_key') }})
  {%- endif %}
  {%- if sync.oldest_first %}
  order by {{ dbt_posthog_sync.model_column(sync.timestamp) }}
  {%- endif %}
{%- endmacro %}

{% macro streamed_lane(sync) %}{{ dbt_posthog_sync.lane(sync) }} * 2 + {{ dbt_posthog_sync.historical(sync) }}{% endmacro %}
{% macro streamed_message(sync) %}
  {%- set seam = dbt_posthog_sync.literal('\x1c') -%}
  {{- return(dbt_posthog_sync.joined(["'\"uuid\":\"'", dbt_posthog_sync.message_uuid(sync), "'\",'"]
    + dbt_posthog_sync.message_head(sync) + [seam] + dbt_posthog_sync.message_properties(sync))) -}}
{%- endmacro %}

{# True where a condition is, and false where it is null. #}
{% macro certain(condition) %}{{ return(adapter.dispatch('certain', 'dbt_posthog_sync')(condition)) }}{% endmacro %}
{% macro default__certain(condition) %}{{ return('(' ~ condition ~ ') is true') }}{% endmacro %}

{% macro samples(sync, most) %}
  select * from ({{ dbt_posthog_sync.message_stream(sync) }}) s order by position limit {{ most }}
{% endmacro %}

{# --- identity of a message --- #}

{# UUIDv5-shaped and deterministic: the same row makes the same uuid in every run. A person's or group's message also
   contains what is sent and when it was staged, because a later state is another message. #}
{% macro message_uuid(sync) %}
  {%- set seed = dbt_posthog_sync.literal(sync.uuid_prefix) ~ ' || ' ~ dbt_posthog_sync.canonical_text('c.sync_key', sync.key.type) -%}
  {%- if sync.object in ('person', 'group') -%}
    {%- set seed = seed ~ " || '|' || " ~ dbt_posthog_sync.as_text('c.row_hash') ~ " || '|' || " ~ dbt_posthog_sync.moment_text('c.staged_at') -%}
  {%- endif -%}
  {%- if sync.identities -%}{%- set seed = seed ~ " || '|' || c.distinct_id" -%}{%- endif -%}
  {{- return(adapter.dispatch('uuid_of', 'dbt_posthog_sync')(seed)) -}}
{% endmacro %}

{# A uuid of an MD5 in hexadecimal digits: equal rows make equal uuids in every warehouse. #}
{% macro uuid_of_digest(digest) %}
  {%- set parts = [] -%}
  {%- for first, length in [(1, 8), (9, 4), (14, 3), (18, 3), (21, 12)] -%}
    {%- do parts.append('substr(' ~ digest ~ ', ' ~ first ~ ', ' ~ length ~ ')') -%}
  {%- endfor -%}
  {{- return('(' ~ dbt_posthog_sync.joined([parts[0], "'-'", parts[1], "'-5'", parts[2], "'-8'", parts[3], "'-'", parts[4]]) ~ ')') -}}
{% endmacro %}

{# Messages of one person share a lane, and a lane keeps its order. #}
{% macro lane(sync) %}
  {%- if sync.loops -%}{{- return(dbt_posthog_sync.bucket(dbt_posthog_sync.loops_identity(sync), sync.lanes)) -}}{%- endif -%}
  {%- set identity = dbt_posthog_sync.group_key_text(sync) if sync.object == 'group' else dbt_posthog_sync.staged_distinct_id(sync) -%}
  {{- return(dbt_posthog_sync.bucket(identity, sync.lanes)) -}}
{% endmacro %}
{% macro bucket(expression, buckets) %}{{ return(adapter.dispatch('bucket', 'dbt_posthog_sync')(expression, buckets)) }}{% endmacro %}

{# Only events older than 48 hours are historical, and never a message that writes a person
   (PostHog docs: Migrate to PostHog; PostHog/posthog issue 37000). #}
{% macro historical(sync) %}
  {%- if sync.object in ('event', 'page') -%}
    case when {{ dbt_posthog_sync.moment(dbt_posthog_sync.model_column(sync.timestamp), sync.timestamp.type, sync.time_zone) }}
      < {{ dbt_posthog_sync.shifted(dbt_posthog_sync.statement_time(), '-', 48, 'hour') }} then 1 else 0 end
  {%- else -%}0{%- endif -%}
{% endmacro %}

{# --- text of the parts --- #}

{# The one text of a column that names somebody or something. #}
{% macro column_text(column) %}{{ return(dbt_posthog_sync.canonical_text(dbt_posthog_sync.model_column(column), column.type)) }}{% endmacro %}
{# Of an e-mail address it is the person's that was found, or the one to make. #}
{% macro distinct_id_text(sync) %}
  {%- if sync.key_is_email -%}{{- return(dbt_posthog_sync.found_distinct_id(sync)) -}}{%- endif -%}
  {{- return(dbt_posthog_sync.column_text(sync.distinct_id)) -}}
{% endmacro %}
{# The distinct_id of a staged row. #}
{% macro staged_distinct_id(sync) %}{{ return('c.distinct_id' if sync.identities else dbt_posthog_sync.distinct_id_text(sync)) }}{% endmacro %}
{% macro group_key_text(sync) %}{{ return(dbt_posthog_sync.column_text(sync.key)) }}{% endmacro %}
{% macro event_name(sync) %}
  {%- if sync.event.column -%}{{- return(dbt_posthog_sync.column_text(sync.event.column)) -}}{%- endif -%}
  {{- return(dbt_posthog_sync.literal(sync.event.text)) -}}
{% endmacro %}

{# Parts joined as a tree: a warehouse gives up on an expression that nests as deep as a table is wide. #}
{% macro joined(parts, operator=none) %}
  {%- if operator is none -%}{{- return(adapter.dispatch('concatenation', 'dbt_posthog_sync')(parts)) -}}{%- endif -%}
  {%- if parts | length <= 32 -%}{{- return(parts | join(operator)) -}}{%- endif -%}
  {%- set branches = [] -%}
  {%- for branch in parts | batch(32) -%}{%- do branches.append('(' ~ branch | join(operator) ~ ')') -%}{%- endfor -%}
  {{- return(dbt_posthog_sync.joined(branches, operator)) -}}
{% endmacro %}

{# Texts, none of them null, as one. #}
{% macro default__concatenation(parts) %}{{ return(dbt_posthog_sync.joined(parts, ' || ')) }}{% endmacro %}

{# `"name":` as a literal; names are JSON-encoded once, in Python. #}
{% macro member(json_name, prefix=',') %}{{ return(dbt_posthog_sync.literal(prefix ~ json_name ~ ':')) }}{% endmacro %}

{# What stands before the seam, as parts. #}
{% macro message_head(sync) %}
  {%- if sync.loops -%}{{- return([dbt_posthog_sync.loops_head(sync)]) -}}{%- endif -%}
  {%- if sync.object == 'group' -%}
    {%- set person = "'\"dbt-posthog-sync:group:' || " ~ dbt_posthog_sync.as_text(dbt_posthog_sync.bucket(dbt_posthog_sync.group_key_text(sync), 16)) ~ " || '\"'" -%}
  {%- else -%}
    {%- set person = dbt_posthog_sync.json_text(dbt_posthog_sync.staged_distinct_id(sync)) if sync.identities or sync.key_is_email
        else dbt_posthog_sync.json_of_text(dbt_posthog_sync.column_text(sync.distinct_id), sync.distinct_id.type) -%}
  {%- endif -%}
  {%- if sync.event and sync.event.column -%}
    {%- set event = dbt_posthog_sync.literal('"event":') ~ ' || ' ~ dbt_posthog_sync.json_text(dbt_posthog_sync.event_name(sync)) -%}
  {%- else -%}
    {%- set event = dbt_posthog_sync.literal('"event":' ~ sync.event.json) -%}
  {%- endif -%}
  {%- set parts = [event, dbt_posthog_sync.member('"distinct_id"'), person,
                   dbt_posthog_sync.member('"timestamp"'), dbt_posthog_sync.message_timestamp(sync)] -%}
  {%- for item in sync.properties if item.envelope -%}
    {%- do parts.append("coalesce(" ~ dbt_posthog_sync.member(item.envelope) ~ " || " ~ dbt_posthog_sync.value(sync, item) ~ ", '')") -%}
  {%- endfor -%}
  {{- return(parts) -}}
{%- endmacro %}

{% macro message_timestamp(sync) %}
  {%- if sync.timestamp -%}
    {{- dbt_posthog_sync.row_time(sync) -}}
  {%- else -%}
    '"' || {{ dbt_posthog_sync.moment_text('c.staged_at') }} || '"'
  {%- endif -%}
{% endmacro %}

{# The JSON value of a mapping: a column's expression (null where the row has none) or a constant's literal. What stands
   beside the event must be a text, or PostHog refuses the whole request. #}
{% macro value(sync, item) %}
  {%- if item.column and item.envelope -%}
    {{- return(dbt_posthog_sync.json_text("nullif(" ~ dbt_posthog_sync.column_text(item.column) ~ ", '')")) -}}
  {%- elif item.column -%}
    {{- return(dbt_posthog_sync.json_of(dbt_posthog_sync.model_column(item.column), item.column.type, sync.time_zone)) -}}
  {%- endif -%}
  {{- return(dbt_posthog_sync.literal(item.json)) -}}
{% endmacro %}

{# Members of `properties` as parts, each member with a leading comma. `person_id` tells whether PostHog has the person of
   the row. #}
{% macro message_properties(sync, person_id='c.person_id') %}
  {%- if sync.loops -%}{{- return([dbt_posthog_sync.loops_properties(sync)]) -}}{%- endif -%}
  {%- if sync.object == 'person' -%}{{- return([dbt_posthog_sync.person_properties(sync, person_id)]) -}}
  {%- elif sync.object == 'group' -%}{{- return([dbt_posthog_sync.group_properties(sync)]) -}}{%- endif -%}
  {{- return(dbt_posthog_sync.event_properties(sync)) -}}
{% endmacro %}

{% macro event_properties(sync) %}
  {%- set parts = [] -%}
  {%- for item in sync.properties -%}
    {%- if item.envelope -%}
      {%- do parts.append("coalesce(" ~ dbt_posthog_sync.member(item.name) ~ " || " ~ dbt_posthog_sync.value(sync, item) ~ ", '')") -%}
    {%- elif item.column -%}
      {%- do parts.extend([dbt_posthog_sync.member(item.name), "coalesce(" ~ dbt_posthog_sync.value(sync, item) ~ ", 'null')"]) -%}
    {%- else -%}
      {%- do parts.append(dbt_posthog_sync.literal(',' ~ item.name ~ ':' ~ item.json)) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if sync.derives_host -%}{%- do parts.append(dbt_posthog_sync.derived('"$host"', dbt_posthog_sync.url_host(sync))) -%}{%- endif -%}
  {%- if sync.derives_pathname -%}{%- do parts.append(dbt_posthog_sync.derived('"$pathname"', dbt_posthog_sync.url_pathname(sync))) -%}{%- endif -%}
  {%- if sync.groups -%}{%- do parts.append(dbt_posthog_sync.event_groups(sync)) -%}{%- endif -%}
  {{- return(parts) -}}
{% endmacro %}

{% macro derived(json_name, expression) %}
  {{- return("coalesce(" ~ dbt_posthog_sync.member(json_name) ~ " || " ~ dbt_posthog_sync.json_text(expression) ~ ", '')") -}}
{% endmacro %}

{% macro url_text(sync) %}{{ return(dbt_posthog_sync.column_text(sync.url)) }}{% endmacro %}
{# Host with its port, in lower case, as browsers show it. #}
{% macro url_host(sync) %}
  {{- return('lower(' ~ dbt_posthog_sync.url_part(sync, '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#]*@)?([^/?#]+)') ~ ')') -}}
{% endmacro %}

{# Path of an address with a host, or of a text that is itself a path. Anything else (a bare query, `example.com/a`) does
   not say where its path begins. #}
{% macro url_pathname(sync) %}
  {{- return("coalesce(" ~ dbt_posthog_sync.url_part(sync, '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*(/[^?#]*)') ~ ", "
    ~ dbt_posthog_sync.url_part(sync, '^(/(?:[^/?#][^?#]*)?)(?:[?#]|$)') ~ ", "
    ~ "case when " ~ dbt_posthog_sync.url_host(sync) ~ " is not null then '/' end)") -}}
{% endmacro %}

{# The first group of a pattern in the address; null where there is none. #}
{% macro url_part(sync, pattern) %}
  {{- return(adapter.dispatch('first_match', 'dbt_posthog_sync')(dbt_posthog_sync.url_text(sync), pattern)) -}}
{% endmacro %}

{# `$groups`, without the types whose key is null or blank. #}
{% macro event_groups(sync) %}
  {%- set parts = [] -%}
  {%- for group in sync.groups -%}
    {%- if group.column -%}
      {%- set text = dbt_posthog_sync.column_text(group.column) -%}
      {%- set key = "case when " ~ dbt_posthog_sync.stripped(text) ~ " <> '' then " ~ text ~ " end" -%}
      {%- do parts.append("coalesce(" ~ dbt_posthog_sync.member(group.name) ~ " || " ~ dbt_posthog_sync.json_text(key) ~ ", '')") -%}
    {%- else -%}
      {%- do parts.append(dbt_posthog_sync.literal(',' ~ group.name ~ ':' ~ group.json)) -%}
    {%- endif -%}
  {%- endfor -%}
  {{- return("coalesce(',\"$groups\":{' || nullif(substr(" ~ dbt_posthog_sync.joined(parts) ~ ", 2), '') || '}', '')") -}}
{% endmacro %}

{# `$set`, `$set_once` and `$unset`, never `$identify`: that would mark the person as identified for good. #}
{% macro person_properties(sync, person_id) %}
  {%- set set_parts, once_parts, unset_parts = [], [], [] -%}
  {%- for name in sync.unset -%}{%- do unset_parts.append(dbt_posthog_sync.literal(',' ~ name)) -%}{%- endfor -%}
  {%- for item in sync.properties -%}
    {%- if not item.column -%}
      {%- set part = dbt_posthog_sync.literal(',' ~ item.name ~ ':' ~ item.json) -%}
    {%- elif item.operation == 'set' and sync.nulls == 'send' -%}
      {%- set part = dbt_posthog_sync.member(item.name) ~ " || coalesce(" ~ dbt_posthog_sync.value(sync, item) ~ ", 'null')" -%}
    {%- else -%}
      {%- set part = "coalesce(" ~ dbt_posthog_sync.member(item.name) ~ " || " ~ dbt_posthog_sync.value(sync, item) ~ ", '')" -%}
    {%- endif -%}
    {%- if item.operation == 'set_once' -%}{%- do once_parts.append(part) -%}{%- else -%}{%- do set_parts.append(part) -%}{%- endif -%}
    {%- if item.column and item.operation == 'set' and sync.nulls == 'unset' -%}
      {%- do unset_parts.append("case when " ~ dbt_posthog_sync.has_no_value(sync, item.column) ~ " then " ~ dbt_posthog_sync.literal(',' ~ item.name) ~ " else '' end") -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if sync.makes_with_email -%}{# or nobody would find it by the address #}
    {%- set address = dbt_posthog_sync.member('"email"') ~ ' || ' ~ dbt_posthog_sync.json_text(dbt_posthog_sync.key_expression(sync)) -%}
    {%- do once_parts.append('case when ' ~ person_id ~ ' is null then ' ~ address ~ " else '' end") -%}
  {%- endif -%}
  {%- set parts = [dbt_posthog_sync.enclosed(',"$set":{', set_parts, '}', always=true)] -%}
  {%- if once_parts -%}{%- do parts.append(dbt_posthog_sync.enclosed(',"$set_once":{', once_parts, '}')) -%}{%- endif -%}
  {%- if unset_parts -%}{%- do parts.append(dbt_posthog_sync.enclosed(',"$unset":[', unset_parts, ']')) -%}{%- endif -%}
  {{- return(dbt_posthog_sync.joined(parts)) -}}
{% endmacro %}

{# True where a column has no JSON value. Most types have one for all that is not null, and need not be built to know. #}
{% macro has_no_value(sync, column) %}
  {%- set expression = dbt_posthog_sync.model_column(column) -%}
  {%- if column.type.family in ('text', 'enum', 'boolean', 'integer', 'bigint', 'uuid') -%}{{- return(expression ~ ' is null') -}}{%- endif -%}
  {{- return('(' ~ dbt_posthog_sync.json_of(expression, column.type, sync.time_zone) ~ ') is null') -}}
{% endmacro %}

{% macro group_properties(sync) %}
  {%- set parts = [] -%}
  {%- for item in sync.properties -%}
    {%- do parts.append(dbt_posthog_sync.member(item.name) ~ " || coalesce(" ~ dbt_posthog_sync.value(sync, item) ~ ", 'null')") -%}
  {%- endfor -%}
  {{- return(dbt_posthog_sync.literal(',"$group_type":' ~ sync.group_type ~ ',"$group_key":') ~ " || "
    ~ dbt_posthog_sync.json_text(dbt_posthog_sync.group_key_text(sync)) ~ " || "
    ~ dbt_posthog_sync.enclosed(',"$group_set":{', parts, '}', always=true)) -}}
{% endmacro %}

{# Members joined between brackets; left out when there are none, unless `always`. #}
{% macro enclosed(opening, parts, closing, always=false) %}
  {%- if not parts -%}{{- return(dbt_posthog_sync.literal(opening ~ closing if always else '')) -}}{%- endif -%}
  {%- set inner = "substr(" ~ dbt_posthog_sync.joined(parts) ~ ", 2)" -%}
  {%- if always -%}{{- return(dbt_posthog_sync.literal(opening) ~ " || " ~ inner ~ " || " ~ dbt_posthog_sync.literal(closing)) -}}{%- endif -%}
  {{- return("coalesce(" ~ dbt_posthog_sync.literal(opening) ~ " || nullif(" ~ inner ~ ", '') || " ~ dbt_posthog_sync.literal(closing) ~ ", '')") -}}
{% endmacro %}
