{# Identities: which persons of PostHog a sync key means. Whatever the source is, it comes down to rows of
   (match_text, distinct_id, person_id, created_at), one for each person that a key may mean. #}

{# An e-mail address as it is compared, the same way on both sides: without white space at its ends, in small letters. #}
{% macro email_text(expression) %}nullif(lower({{ dbt_posthog_sync.stripped(expression) }}), ''){% endmacro %}

{# Where a text has another, counted from 1; 0 where it has not. #}
{% macro place_of(part, text) %}{{ return(adapter.dispatch('place_of', 'dbt_posthog_sync')(part, text)) }}{% endmacro %}
{% macro default__place_of(part, text) %}{{ return('strpos(' ~ text ~ ', ' ~ dbt_posthog_sync.literal(part) ~ ')') }}{% endmacro %}

{# What a row is looked up by. #}
{% macro match_text(sync) %}
  {%- if sync.key_is_email -%}{{- return(dbt_posthog_sync.key_expression(sync)) -}}{%- endif -%}
  {{- return(dbt_posthog_sync.column_text(sync.distinct_id)) -}}
{% endmacro %}

{# The model with the persons that its rows mean, as `i`. #}
{% macro with_identities(sync) %}
  {%- if sync.identities %}
    left join {{ dbt_posthog_sync.identities(sync) }} i on i.match_text = {{ dbt_posthog_sync.match_text(sync) }}
  {%- endif -%}
{% endmacro %}

{# One row for each key and person that is meant: the policy picks. `persons` counts all of the key; a key that was looked
   up and that nobody has keeps a row without a person. #}
{% macro identities(sync) %}
  {%- set order = {'newest': 'created_at desc nulls last, person_id desc', 'oldest': 'created_at nulls last, person_id'} -%}
  (select match_text, distinct_id, person_id, persons, number from (
     select r.*, count(person_id) over (partition by match_text) as persons,
       row_number() over (partition by match_text order by {{ order.get(sync.identities.on_several, 'person_id') }}) as number
     from ({{ dbt_posthog_sync.identity_rows(sync) }}) r) numbered
   {%- if sync.identities.on_several != 'all' %}
   where number = 1
   {%- endif -%})
{%- endmacro %}

{% macro identity_rows(sync) %}
  {%- if sync.identities.model -%}{{- return(dbt_posthog_sync.identity_model_rows(sync)) -}}{%- endif -%}
  {{- return('select match_text, distinct_id, person_id, created_at from ' ~ dbt_posthog_sync.sync_table(sync, 'identities')) -}}
{% endmacro %}

{# PostHog's export of persons in the warehouse: a row for each distinct_id, with the properties of its person. A row may
   be there in several versions; the newest counts (PostHog docs: Batch exports, persons model). #}
{% macro identity_model_rows(sync) %}
  {%- set model = sync.identities.model -%}
  {%- set created_at = 'cast(' ~ (model.created_at or 'null') ~ ' as ' ~ dbt_posthog_sync.type_moment() ~ ')' -%}
  {%- if model.email -%}{%- set email = dbt_posthog_sync.as_text(model.email) -%}
  {%- elif model.properties -%}{%- set email = dbt_posthog_sync.json_member(model.properties, 'email') -%}
  {%- else -%}{%- set email = "cast(null as " ~ dbt_posthog_sync.type_text() ~ ")" -%}{%- endif -%}
  {%- set distinct_ids %}
    select * from (
      select {{ dbt_posthog_sync.as_text(model.distinct_id) }} as distinct_id, {{ dbt_posthog_sync.as_text(model.person_id) }} as person_id,
        {{ created_at }} as created_at, {{ email if sync.key_is_email else 'null' }} as email, {{ model.person_version or '0' }} as version,
        {{ 'coalesce(' ~ model.is_deleted ~ ', false)' if model.is_deleted else 'false' }} as is_deleted,
        row_number() over (partition by {{ model.distinct_id }} order by {{ model.distinct_id_version or '1' }} desc, {{ model.person_version or '1' }} desc) as age
      from {{ model.relation }}
      {%- if model.team_id %} where {{ dbt_posthog_sync.as_text(model.team_id) }} = {{ dbt_posthog_sync.literal(model.project_id) }}{% endif %}) v
    where age = 1 and not is_deleted
  {%- endset -%}
  {%- if not sync.key_is_email -%}
    select distinct_id as match_text, distinct_id, person_id, created_at from ({{ distinct_ids }}) d
  {%- else -%}
    select {{ dbt_posthog_sync.email_text('email') }} as match_text, target as distinct_id, person_id, created_at from (
      select person_id, created_at, email, min(distinct_id) over (partition by person_id) as target,
        row_number() over (partition by person_id order by version desc, distinct_id) as rank_in_person
      from ({{ distinct_ids }}) d) p
    where rank_in_person = 1
  {%- endif -%}
{% endmacro %}

{# A member of a JSON object as text. #}
{% macro json_member(expression, name) %}{{ return(adapter.dispatch('json_member', 'dbt_posthog_sync')(expression, name)) }}{% endmacro %}

{# The distinct_id of the person that has the e-mail address, or the one with which a person is made. #}
{% macro found_distinct_id(sync) %}
  {%- set create = sync.identities.create -%}
  {%- if create == 'email' -%}{{- return('coalesce(i.distinct_id, ' ~ dbt_posthog_sync.key_expression(sync) ~ ')') -}}
  {%- elif create -%}{{- return('coalesce(i.distinct_id, ' ~ dbt_posthog_sync.column_text(create) ~ ')') -}}{%- endif -%}
  {{- return('i.distinct_id') -}}
{% endmacro %}

{# Why a row means no person, or not one. #}
{% macro identity_reasons(sync) %}
  {%- if sync.key_is_email -%}
    {{ dbt_posthog_sync.when(dbt_posthog_sync.place_of('@', dbt_posthog_sync.key_expression(sync)) ~ ' = 0', 'no_email') }}
  {%- endif %}
  {% if sync.identities.are_asked %}{{ dbt_posthog_sync.when('i.match_text is null', 'unasked') }}{% endif %}
  {% if sync.identities.on_several == 'skip' %}{{ dbt_posthog_sync.when('i.persons > 1', 'several') }}{% endif %}
  {% if not sync.identities.create %}{{ dbt_posthog_sync.when('i.person_id is null', 'no_person') }}
  {%- elif sync.identities.create != 'email' %}
  {{ dbt_posthog_sync.when('i.person_id is null and ' ~ dbt_posthog_sync.column_text(sync.identities.create) ~ ' is null', 'no_person') }}
  {%- endif %}
{%- endmacro %}

{# Rows of several addresses that would make one person: each would overwrite the others. #}
{% macro reject_shared_creations(sync) %}
  update {{ dbt_posthog_sync.sync_table(sync, 'changes') }} set reason = {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().shared_creation) }}
  where reason is null and person_id is null and distinct_id in (
    select distinct_id from {{ dbt_posthog_sync.sync_table(sync, 'changes') }}
    where person_id is null and distinct_id is not null group by distinct_id having count(*) > 1)
{% endmacro %}

{# True for a row of a person that was deleted on request. An address that was erased is also none to be sent to as a
   distinct_id: an app may know people by it. #}
{% macro erased_reason(sync) %}
  {%- set erased = 'in (select identity from ' ~ dbt_posthog_sync.state_table(sync.schema, 'erased_persons') ~ ' where kind = ' -%}
  {%- set distinct_id = dbt_posthog_sync.distinct_id_text(sync) -%}
  {{ dbt_posthog_sync.when(distinct_id ~ ' ' ~ erased ~ "'distinct_id')", 'erased') }}
  {{ dbt_posthog_sync.when(dbt_posthog_sync.email_text(distinct_id) ~ ' ' ~ erased ~ "'email')", 'erased') }}
  {% if sync.key_is_email %}{{ dbt_posthog_sync.when(dbt_posthog_sync.key_expression(sync) ~ ' ' ~ erased ~ "'email')", 'erased') }}{% endif %}
{%- endmacro %}

{# --- what was asked of PostHog --- #}

{% macro create_identities_table(sync) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  {{ dbt_posthog_sync.create_sync_table(sync, 'identities', 'match_text ' ~ text ~ ', distinct_id ' ~ text ~ ', person_id ' ~ text
    ~ ', created_at ' ~ dbt_posthog_sync.type_moment()) }}
{% endmacro %}

{# `rows` is a JSON array of arrays: what was found by, distinct_id, id of the person, when it was made. #}
{% macro insert_identities(sync, rows) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'identities') }} (match_text, distinct_id, person_id, created_at)
  select {{ dbt_posthog_sync.email_text('c0') if sync.key_is_email else 'c0' }}, c1, c2, cast(c3 as {{ dbt_posthog_sync.type_moment() }})
  from {{ dbt_posthog_sync.rows_of_json(rows, 4) }} t
{% endmacro %}

{# A JSON array of arrays of texts as a relation with the columns c0, c1 and so on. #}
{% macro rows_of_json(rows, columns) %}{{ return(adapter.dispatch('rows_of_json', 'dbt_posthog_sync')(rows, columns)) }}{% endmacro %}

{# Keys that were looked up and that nobody has. #}
{% macro insert_unknown_identities(sync, keys) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'identities') }} (match_text)
  select c0 from {{ dbt_posthog_sync.rows_of_json(keys, 1) }} t
  where not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'identities') }} f where f.match_text = t.c0)
{% endmacro %}

{# What this run has to look up, page by page: the keys of rows that are new or changed. #}
{% macro keys_to_look_up(sync, after, most) %}
  {%- set key = dbt_posthog_sync.match_text(sync) if sync.is_first else dbt_posthog_sync.canonical_text('d.sync_key', sync.key.type) %}
  select distinct look_up from (
    select {{ key }} as look_up
    from {{ sync.relation ~ ' m where ' ~ dbt_posthog_sync.row_in_shard(sync) if sync.is_first else dbt_posthog_sync.sync_table(sync, 'diff') ~ ' d' }}) k
  where look_up {{ 'is not null' if after is none else '> ' ~ dbt_posthog_sync.literal(after) }}
  {%- if sync.has_erased %}
    and look_up not in (select identity from {{ dbt_posthog_sync.state_table(sync.schema, 'erased_persons') }}
      where kind = '{{ 'email' if sync.key_is_email else 'distinct_id' }}')
  {%- endif %}
  order by look_up limit {{ most }}
{% endmacro %}

{# --- mirrors --- #}

{% macro insert_mirror(schema, table, kind, destination) %}
  insert into {{ dbt_posthog_sync.state_table(schema, 'mirrors') }} (table_name, kind, destination, begun_at)
  select {{ dbt_posthog_sync.literal(table) }}, {{ dbt_posthog_sync.literal(kind) }}, {{ dbt_posthog_sync.literal(destination) }}, {{ dbt_posthog_sync.clock() }}
{% endmacro %}

{% macro end_mirror(schema, table, rows) %}
  update {{ dbt_posthog_sync.state_table(schema, 'mirrors') }} set loaded_at = {{ dbt_posthog_sync.clock() }}, row_count = {{ rows }}
  where table_name = {{ dbt_posthog_sync.literal(table) }}
{% endmacro %}

{# Name, seconds since loading (null while it is loaded) and seconds since its begin, the newest first. #}
{% macro read_mirrors(schema, kind, destination) %}
  select table_name, {{ dbt_posthog_sync.seconds_since('loaded_at') }}, {{ dbt_posthog_sync.seconds_since('begun_at') }}
  from {{ dbt_posthog_sync.state_table(schema, 'mirrors') }}
  where kind = {{ dbt_posthog_sync.literal(kind) }} and destination = {{ dbt_posthog_sync.literal(destination) }}
  order by loaded_at desc nulls last, begun_at desc
{% endmacro %}

{% macro forget_mirror(schema, table) %}
  delete from {{ dbt_posthog_sync.state_table(schema, 'mirrors') }} where table_name = {{ dbt_posthog_sync.literal(table) }}
{% endmacro %}

{# The first and the last project in the identity model. #}
{% macro read_projects(relation, team_id) %}
  select min({{ dbt_posthog_sync.as_text(team_id) }}), max({{ dbt_posthog_sync.as_text(team_id) }}) from {{ relation }}
{% endmacro %}

{# One row where the identity model has persons at all. #}
{% macro read_identity_sample(sync) %}select person_id from ({{ dbt_posthog_sync.identity_model_rows(sync) }}) r limit 1{% endmacro %}

{# One row where a row with a key is new or changed. #}
{% macro read_pending_keys(sync) %}
  select kind from {{ dbt_posthog_sync.sync_table(sync, 'diff') }} where sync_key is not null limit 1
{% endmacro %}

{# True while some person was deleted on request. #}
{% macro read_erased(schema) %}select count(*) from (select 1 from {{ dbt_posthog_sync.state_table(schema, 'erased_persons') }} limit 1) e{% endmacro %}

{# --- persons that are deleted on request --- #}

{# Every key of the erasure model that is new, whether PostHog has the person or not. #}
{% macro insert_erased_keys(sync) %}
  {{ dbt_posthog_sync.insert_erased(sync, 'email' if sync.key_is_email else 'distinct_id',
    '(select distinct ' ~ dbt_posthog_sync.canonical_text('sync_key', sync.key.type) ~ ' as c0 from '
    ~ dbt_posthog_sync.sync_table(sync, 'changes') ~ ' where sync_key is not null and not ' ~ dbt_posthog_sync.is_held('reason') ~ ')') }}
{% endmacro %}

{# Further distinct_ids of persons that are deleted now. #}
{% macro insert_erased_ids(sync, rows) %}
  {{ dbt_posthog_sync.insert_erased(sync, 'distinct_id', dbt_posthog_sync.rows_of_json(rows, 1)) }}
{% endmacro %}

{% macro insert_erased(sync, kind, identities) %}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'erased_persons') }} (kind, identity, sync_id, run_id, erased_at)
  select '{{ kind }}', t.c0, {{ dbt_posthog_sync.literal(sync.id) }}, {{ dbt_posthog_sync.literal(sync.run_id) }}, {{ dbt_posthog_sync.clock() }}
  from {{ identities }} t
  where {{ dbt_posthog_sync.lease_is_held(sync) }} and not exists (
    select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'erased_persons') }} e where e.kind = '{{ kind }}' and e.identity = t.c0)
{% endmacro %}

{# The next staged rows whose persons are to be deleted. #}
{% macro read_erasures(sync, after, most) %}
  select position, person_id from {{ dbt_posthog_sync.sync_table(sync, 'changes') }}
  where reason is null and position > {{ after }} order by position limit {{ most }}
{% endmacro %}
