{# Messages to Loops: the JSON body of one request, whose members stand in the message as those of an event do. What Loops
   takes: loops.so/docs/api-reference (update-contact, send-event). #}

{# Before the seam: whom it is about, and what happened. #}
{% macro loops_head(sync) %}
  {%- set parts = [] -%}
  {%- if sync.loops.email -%}{%- do parts.append(dbt_posthog_sync.loops_member('"email"', dbt_posthog_sync.json_text(dbt_posthog_sync.loops_email(sync)))) -%}{%- endif -%}
  {%- if sync.loops.user_id -%}{%- do parts.append(dbt_posthog_sync.loops_member('"userId"', dbt_posthog_sync.json_text(dbt_posthog_sync.loops_user_id(sync)))) -%}{%- endif -%}
  {%- if sync.event and sync.event.column -%}
    {%- do parts.append(dbt_posthog_sync.member('"eventName"') ~ " || " ~ dbt_posthog_sync.json_text(dbt_posthog_sync.event_name(sync))) -%}
  {%- elif sync.object == 'events' -%}
    {%- do parts.append(dbt_posthog_sync.literal(',"eventName":' ~ sync.event.json)) -%}
  {%- endif -%}
  {{- return("substr(" ~ dbt_posthog_sync.joined(parts) ~ ", 2)") -}}
{% endmacro %}

{# Behind it: contact properties at the top level, event properties in an object of their own, and mailing lists. #}
{% macro loops_properties(sync) %}
  {%- set parts = [] -%}
  {%- for item in sync.properties -%}{%- do parts.append(dbt_posthog_sync.loops_property(sync, item)) -%}{%- endfor -%}
  {%- set lists = dbt_posthog_sync.literal(',"mailingLists":' ~ sync.loops.mailing_lists) if sync.loops.mailing_lists else "''" -%}
  {%- if sync.object == 'events' -%}
    {{- return(dbt_posthog_sync.enclosed(',"eventProperties":{', parts, '}') ~ " || " ~ lists) -}}
  {%- endif -%}
  {{- return(dbt_posthog_sync.joined(parts + [lists])) -}}
{% endmacro %}

{# One property. What is empty is left out, as PostHog's own templates do it, or emptied in Loops by a null. #}
{% macro loops_property(sync, item) %}
  {%- if not item.column -%}{{- return(dbt_posthog_sync.literal(',' ~ item.name ~ ':' ~ item.json)) -}}{%- endif -%}
  {%- set value = dbt_posthog_sync.loops_value(sync, item.column) -%}
  {%- if sync.object == 'contacts' and sync.nulls == 'unset' and item.name != '"subscribed"' -%}
    {{- return(dbt_posthog_sync.member(item.name) ~ " || coalesce(" ~ value ~ ", 'null')") -}}
  {%- endif -%}
  {{- return(dbt_posthog_sync.loops_member(item.name, value)) -}}
{% endmacro %}

{# A member that is left out where its value is null. #}
{% macro loops_member(json_name, value) %}{{ return("coalesce(" ~ dbt_posthog_sync.member(json_name) ~ " || " ~ value ~ ", '')") }}{% endmacro %}

{# JSON of a column; null where PostHog's templates see nothing (PostHog/posthog: common/hogvm, `empty`). #}
{% macro loops_value(sync, column) %}
  {%- set json = dbt_posthog_sync.json_of(dbt_posthog_sync.model_column(column), column.type, sync.time_zone) -%}
  {%- if column.type.family in ('text', 'enum') -%}{{- return("nullif(" ~ json ~ ", '\"\"')") -}}{%- endif -%}
  {%- if column.type.family in ('json', 'json_text') -%}
    {{- return("nullif(nullif(nullif(nullif(" ~ json ~ ", '\"\"'), '[]'), '{}'), 'null')") -}}
  {%- endif -%}
  {{- return(json) -}}
{% endmacro %}

{# The address and the id as they are sent: null where there is none. #}
{% macro loops_email(sync) %}{{ return("nullif(" ~ dbt_posthog_sync.stripped(dbt_posthog_sync.column_text(sync.loops.email)) ~ ", '')") }}{% endmacro %}
{% macro loops_user_id(sync) %}{{ return("nullif(" ~ dbt_posthog_sync.column_text(sync.loops.user_id) ~ ", '')") }}{% endmacro %}

{# Whom a message is about, so that messages of one contact keep their order. #}
{% macro loops_identity(sync) %}
  {%- set parts = [] -%}
  {%- if sync.loops.user_id -%}{%- do parts.append(dbt_posthog_sync.loops_user_id(sync)) -%}{%- endif -%}
  {%- if sync.loops.email -%}{%- do parts.append(dbt_posthog_sync.loops_email(sync)) -%}{%- endif -%}
  {{- return("coalesce(" ~ parts | join(', ') ~ ", '')") -}}
{% endmacro %}

{# Why a row is not sent to Loops, as conditions of `reject_reason`. #}
{% macro loops_reasons(sync) %}
  {%- set loops = sync.loops -%}
  {%- if loops.email %}
    {% if sync.has_erased %}
    when {{ dbt_posthog_sync.email_text(dbt_posthog_sync.column_text(loops.email)) }} in (
      select identity from {{ dbt_posthog_sync.state_table(sync.schema, 'erased_persons') }} where kind = 'email')
      then {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().erased) }}
    {% endif %}
    {% if sync.object == 'contacts' or not loops.user_id %}
    {{ dbt_posthog_sync.when(dbt_posthog_sync.loops_email(sync) ~ ' is null', 'no_address') }}
    {% else %}
    {{ dbt_posthog_sync.when(dbt_posthog_sync.loops_email(sync) ~ ' is null and ' ~ dbt_posthog_sync.loops_user_id(sync) ~ ' is null', 'nobody') }}
    {% endif %}
    {{ dbt_posthog_sync.when("position('@' in " ~ dbt_posthog_sync.loops_email(sync) ~ ") = 0", 'no_email') }}
  {%- else %}
    {{ dbt_posthog_sync.when(dbt_posthog_sync.loops_user_id(sync) ~ ' is null', 'nobody') }}
  {%- endif %}
  {% if sync.event and sync.event.column %}
    {%- set name = dbt_posthog_sync.event_name(sync) %}
    {{ dbt_posthog_sync.when(name ~ ' is null or ' ~ dbt_posthog_sync.stripped(name) ~ " = ''", 'no_event') }}
  {% endif %}
  {% for column in loops.nested %}
    {{ dbt_posthog_sync.when("substr(" ~ dbt_posthog_sync.loops_value(sync, column) ~ ", 1, 1) in ('{', '[')", 'nested') }}
  {% endfor %}
{%- endmacro %}
