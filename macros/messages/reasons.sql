{# Why a row is not sent. One CASE expression per object, so that a batch is never poisoned by a row. #}

{% macro reasons() %}
  {{- return({
    'null_key': 'the sync key is null',
    'duplicate': 'the sync key occurs more than once in the model',
    'no_distinct_id': 'the distinct_id is missing',
    'illegal_distinct_id': 'the distinct_id is a word that PostHog does not accept as a person',
    'long_distinct_id': 'the distinct_id is longer than 200 bytes',
    'no_event': 'the event name is missing',
    'long_event': 'the event name is longer than 200 bytes',
    'command_event': 'the event name is one that PostHog reads as a command, which would write or merge persons',
    'no_timestamp': 'the timestamp is missing or outside the years 1 to 9999',
    'future': 'the timestamp lies more than 23 hours in the future',
    'no_group_key': 'the group key is missing',
    'long_group_key': 'the group key is longer than 400 characters',
    'large': 'the message is larger than 900 KiB',
    'stale': 'the timestamp is older than that of what was delivered, and PostHog would overwrite the newer with it',
    'volatile': 'the row was another at delivery than at staging, in two runs running: a view with now()? Build a table',
    'doubtful': 'it may have arrived under another event name, distinct_id or day, and PostHog would keep both',
    'no_email': 'the e-mail address has no @',
    'several': 'several persons have the e-mail address: say which are meant by `on_several` (all, newest, oldest), or merge them',
    'no_address': 'the e-mail address is missing',
    'nobody': 'there is neither an e-mail address nor a user id',
    'nested': 'a property is a list or an object, and Loops takes single values only',
    'shared_creation': 'rows of several e-mail addresses would make the person of one distinct_id',
    'no_person': 'PostHog has no such person',
    'unasked': 'the row came while persons were looked up, and the next run takes it',
    'erased': 'the person was deleted, and nothing of it is sent any more',
    'identity': 'the event name, distinct_id or day differ from what was delivered, and PostHog would keep both',
  }) -}}
{% endmacro %}

{# Reasons why a row that could be sent is left out as the annotation or an erasure wants it: no fault of the row. #}
{% macro skips() %}{{ return(['no_person', 'unasked', 'erased', 'stale']) }}{% endmacro %}
{% macro is_skip(reason) %}
  coalesce({{ reason }} in ({% for name in dbt_posthog_sync.skips() %}{{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons()[name]) }}{{ ', ' if not loop.last }}{% endfor %}), false)
{%- endmacro %}

{# Reasons that time can heal without a change of the row: these rows are looked at in every run. #}
{% macro heals(reason) %}
  ({{ reason }} in ({% for name in ['future', 'several'] + dbt_posthog_sync.skips() %}{{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons()[name]) }}{{ ', ' if not loop.last }}{% endfor %})
    or {{ dbt_posthog_sync.is_held(reason) }})
{%- endmacro %}

{# Words that PostHog refuses as a person, or stores without one
   (PostHog/posthog: rust/capture/src/v1/analytics/constants.rs; nodejs: person-merge-service.ts). #}
{% macro illegal_distinct_ids() %}
  {{- return(['0', '00000000-0000-0000-0000-000000000000', '[object object]', 'anonymous', 'anonymous-user', 'backend',
    'distinct_id', 'distinctid', 'email', 'false', 'guest', 'id', 'nan', 'none', 'not_authenticated', 'null', 'system',
    'true', 'undefined', 'user']) -}}
{% endmacro %}

{% macro reject_reason(sync) %}
  case {{ dbt_posthog_sync.when(dbt_posthog_sync.key_expression(sync) ~ ' is null', 'null_key') }}
    {% if sync.has_erased and sync.object != 'group' %}{{ dbt_posthog_sync.erased_reason(sync) }}{% endif %}
    {% if sync.identities %}{{ dbt_posthog_sync.identity_reasons(sync) }}{% endif %}
    {% if sync.loops %}{{ dbt_posthog_sync.loops_reasons(sync) }}
    {% elif sync.object == 'group' %}{{ dbt_posthog_sync.group_key_reasons(dbt_posthog_sync.group_key_text(sync), required=true) }}
    {% elif not sync.deletes %}{{ dbt_posthog_sync.distinct_id_reasons(sync) }}{% endif %}
    {% if sync.event and sync.event.column and not sync.loops %}{{ dbt_posthog_sync.event_reasons(sync) }}{% endif %}
    {% if sync.timestamp %}{{ dbt_posthog_sync.timestamp_reasons(sync) }}{% endif %}
    {% for group in sync.groups if group.column %}
    {{ dbt_posthog_sync.group_key_reasons(dbt_posthog_sync.column_text(group.column), required=false) }}
    {% endfor %}
    {{ dbt_posthog_sync.size_reason(sync) }}
    else null end
{%- endmacro %}

{% macro when(condition, reason) %}when {{ condition }} then {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons()[reason]) }}{% endmacro %}

{# A text without white space at its ends, as PostHog's own `trim` sees white space, and without the characters of `also`. #}
{% macro stripped(text, also='') %}
  {%- set blanks = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000" -%}
  {{- return(dbt_posthog_sync.trimmed(text, dbt_posthog_sync.literal(blanks ~ also))) -}}
{% endmacro %}

{# A text without these characters at its ends. #}
{% macro trimmed(text, characters) %}{{ return(adapter.dispatch('trimmed', 'dbt_posthog_sync')(text, characters)) }}{% endmacro %}
{% macro default__trimmed(text, characters) %}{{ return('trim(both ' ~ characters ~ ' from ' ~ text ~ ')') }}{% endmacro %}

{# A row is tested once for all words; which of the two reasons it is, is asked only where one fits. #}
{% macro distinct_id_reasons(sync) %}
  {%- set text = dbt_posthog_sync.distinct_id_text(sync) -%}
  {%- set bare = 'lower(' ~ dbt_posthog_sync.stripped(text, also="'\"`") ~ ')' -%}
  {%- set is_plain = sync.distinct_id and not sync.key_is_email and sync.distinct_id.type.family in ('integer', 'bigint', 'uuid') -%}
  {%- if is_plain -%}{%- set bare = text -%}{%- endif -%}  {# a number has no blanks and no capitals #}
  when {{ text }} is null or {{ bare }} in ('', {% for word in dbt_posthog_sync.illegal_distinct_ids() %}{{ dbt_posthog_sync.literal(word) }}{{ ', ' if not loop.last }}{% endfor %})
    then case when coalesce({{ bare }}, '') = '' then {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().no_distinct_id) }}
      else {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().illegal_distinct_id) }} end
  {{ dbt_posthog_sync.when(dbt_posthog_sync.byte_length(text) ~ ' > 200', 'long_distinct_id') }}
{%- endmacro %}

{% macro event_reasons(sync) %}
  {%- set text = dbt_posthog_sync.event_name(sync) -%}
  {{ dbt_posthog_sync.when(text ~ ' is null or ' ~ dbt_posthog_sync.stripped(text) ~ " = ''", 'no_event') }}
  {{ dbt_posthog_sync.when(dbt_posthog_sync.byte_length(text) ~ ' > 200', 'long_event') }}
  when {{ dbt_posthog_sync.stripped(text) }} in ({% for name in dbt_posthog_sync.command_events() %}{{ dbt_posthog_sync.literal(name) }}{{ ', ' if not loop.last }}{% endfor %})
    or substr({{ dbt_posthog_sync.stripped(text) }}, 1, 2) = '$$' then {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().command_event) }}
{%- endmacro %}

{# Events that write or merge persons and groups; a column of event names must not smuggle them in. #}
{% macro command_events() %}
  {{- return(['$set', '$identify', '$create_alias', '$merge_dangerously', '$groupidentify', '$snapshot']) -}}
{% endmacro %}

{% macro timestamp_reasons(sync) %}
  {%- set moment = dbt_posthog_sync.moment(dbt_posthog_sync.model_column(sync.timestamp), sync.timestamp.type, sync.time_zone) -%}
  {{ dbt_posthog_sync.when('not coalesce(' ~ dbt_posthog_sync.has_time(sync) ~ ', false)', 'no_timestamp') }}
  {{ dbt_posthog_sync.when(moment ~ ' > ' ~ dbt_posthog_sync.shifted(dbt_posthog_sync.statement_time(), '+', 23, 'hour'), 'future') }}
{%- endmacro %}

{# PostHog counts a group key as JavaScript does, in UTF-16 units; only a text of so many bytes can have so many. #}
{% macro group_key_reasons(text, required) %}
  {% if required %}{{ dbt_posthog_sync.when(dbt_posthog_sync.stripped(text) ~ " = ''", 'no_group_key') }}{% endif %}
  {{ dbt_posthog_sync.when(dbt_posthog_sync.byte_length(text) ~ ' > 400 and ' ~ dbt_posthog_sync.utf16_length(text) ~ ' > 400', 'long_group_key') }}
{%- endmacro %}

{# A cheap bound first: only a row with much text has its message built to be measured. JSON escapes grow a character to
   six bytes at most. The limit is posthog-python's own (PostHog/posthog-python: posthog/consumer.py). #}
{% macro size_reason(sync) %}
  {%- set wide = sync.hashed_columns | selectattr('is_wide') | list -%}
  {%- if wide -%}
    {%- set lengths = [] -%}
    {%- for column in wide -%}
      {%- do lengths.append("coalesce(" ~ dbt_posthog_sync.byte_length(dbt_posthog_sync.as_text(dbt_posthog_sync.model_column(column))) ~ ", 0)") -%}
    {%- endfor %}
    when {{ dbt_posthog_sync.joined(lengths, ' + ') }} > {{ (sync.max_message_bytes - 65536) // 12 }} then case
      {{ dbt_posthog_sync.when(dbt_posthog_sync.byte_length('(' ~ dbt_posthog_sync.joined(dbt_posthog_sync.message_properties(sync, 'i.person_id') or ["''"]) ~ ')') ~ ' > ' ~ (sync.max_message_bytes - 2048), 'large') }}
      else null end
  {%- endif -%}
{%- endmacro %}

{# Length of a text as JavaScript counts it: a character beyond U+FFFF counts twice. #}
{% macro utf16_length(expression) %}{{ return(adapter.dispatch('utf16_length', 'dbt_posthog_sync')(expression)) }}{% endmacro %}

{# Length of a text in bytes of UTF-8. #}
{% macro byte_length(expression) %}{{ return(adapter.dispatch('byte_length', 'dbt_posthog_sync')(expression)) }}{% endmacro %}
{% macro default__byte_length(expression) %}octet_length({{ expression }}){% endmacro %}
