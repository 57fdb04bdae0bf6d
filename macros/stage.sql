{# Staging: which rows changed, and which of them may be sent. Keys and hashes only; messages are built while they stream. #}

{# The sync key of a model row, in the type of our tables. #}
{% macro key_expression(sync) %}
  {%- if sync.key_is_composed -%}
    {{- dbt_posthog_sync.composed_key(sync) -}}
  {%- elif sync.key_is_email or (sync.loops and sync.loops.key_is_address) -%}
    {{- dbt_posthog_sync.email_text(dbt_posthog_sync.column_text(sync.key)) -}}
  {%- else -%}
    cast({{ dbt_posthog_sync.model_column(sync.key) }} as {{ dbt_posthog_sync.type_key(sync.key.type) }})
  {%- endif -%}
{% endmacro %}

{# A page keyed by its visitor is the same row by visitor, time and address. Null only where the visitor is. #}
{% macro composed_key(sync) %}
  {%- set parts = [dbt_posthog_sync.distinct_id_text(sync), "coalesce(" ~ dbt_posthog_sync.row_time(sync) ~ ", '')",
                   "coalesce(" ~ dbt_posthog_sync.url_text(sync) ~ ", '')"] -%}
  {{ dbt_posthog_sync.digest(parts | join(" || '|' || ")) }}
{%- endmacro %}

{# The MD5 of a text in hexadecimal digits. #}
{% macro digest(text) %}{{ return(adapter.dispatch('digest', 'dbt_posthog_sync')(text)) }}{% endmacro %}
{% macro default__digest(text) %}{{ return('md5(' ~ text ~ ')') }}{% endmacro %}

{# Fingerprint of the mapped columns of a row, begun with a number that stands for the mapping itself. #}
{% macro row_hash(columns, seed) %}{{ return(adapter.dispatch('row_hash', 'dbt_posthog_sync')(columns, seed)) }}{% endmacro %}

{# Name of the hash function, and the hash of a fixed row: an engine that changes its function is noticed. #}
{% macro hash_name() %}{{ return(adapter.dispatch('hash_name', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro hash_canary() %}{{ return(adapter.dispatch('hash_canary', 'dbt_posthog_sync')()) }}{% endmacro %}

{# What PostHog needs to be the same when an event is sent again: name, person, UTC day. #}
{% macro identity_hash(sync) %}
  {%- if sync.keeps_identity -%}
    {{- return(dbt_posthog_sync.text_hash(
      dbt_posthog_sync.event_name(sync) ~ " || '|' || " ~ dbt_posthog_sync.distinct_id_text(sync) ~ " || '|' || "
      ~ dbt_posthog_sync.row_day(sync))) -}}
  {%- endif -%}
  {{- return('cast(null as ' ~ dbt_posthog_sync.type_hash() ~ ')') -}}
{% endmacro %}
{% macro text_hash(expression) %}{{ return(adapter.dispatch('text_hash', 'dbt_posthog_sync')(expression)) }}{% endmacro %}

{# The row's own moment, kept with the snapshot where the annotation names one for a person or group. #}
{% macro row_moment(sync) %}
  {%- if sync.keeps_moment -%}
    {{- return(dbt_posthog_sync.moment(dbt_posthog_sync.model_column(sync.timestamp), sync.timestamp.type, sync.time_zone)) -}}
  {%- endif -%}
  {{- return('cast(null as ' ~ dbt_posthog_sync.type_moment() ~ ')') -}}
{% endmacro %}

{# Rows of the model that this run looks at, as conditions of branches that exclude each other: each can use an index.
   All rows; or those in the cursor's window, those without a cursor value, and older ones that were rejected or are in
   doubt. #}
{% macro window_conditions(sync) %}
  {%- if sync.only_rejects -%}
    {{- return([dbt_posthog_sync.key_is_rejected(sync), dbt_posthog_sync.key_expression(sync) ~ ' is null']) -}}
  {%- endif -%}
  {%- set shard = dbt_posthog_sync.row_in_shard(sync) -%}
  {%- if not sync.window_start -%}{{- return([shard]) -}}{%- endif -%}
  {%- set also = ' and ' ~ shard if sync.shard else '' -%}
  {%- set cursor = dbt_posthog_sync.model_column(sync.cursor) -%}
  {%- set start = dbt_posthog_sync.cursor_literal(sync) -%}
  {%- set wanted = [] -%}
  {%- if sync.has_rejects -%}{%- do wanted.append(dbt_posthog_sync.key_is_rejected(sync)) -%}{%- endif -%}
  {%- if sync.has_doubts -%}{%- do wanted.append(dbt_posthog_sync.key_expression(sync) ~ ' in (select sync_key from ' ~ dbt_posthog_sync.doubts(sync) ~ ' d)') -%}{%- endif -%}
  {%- set older = cursor ~ ' < ' ~ start ~ ' and (' ~ (wanted | join(' or ')) ~ ')' -%}
  {{- return([cursor ~ ' >= ' ~ start ~ also, cursor ~ ' is null' ~ also] + ([older ~ also] if wanted else [])) -}}
{% endmacro %}
{# True for a model row of this run's shard. #}
{% macro row_in_shard(sync) %}{{ return(dbt_posthog_sync.in_shard(sync, dbt_posthog_sync.as_text(dbt_posthog_sync.key_expression(sync)))) }}{% endmacro %}
{# True for a model row whose key has an open reject. #}
{% macro key_is_rejected(sync) %}
  {{ dbt_posthog_sync.as_text(dbt_posthog_sync.key_expression(sync)) }} in (
    select sync_key from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }}
    where sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and resolved_at is null and sync_key is not null)
{%- endmacro %}
{% macro cursor_literal(sync) %}cast({{ dbt_posthog_sync.literal(sync.window_start) }} as {{ sync.cursor.type.text }}){% endmacro %}

{# Where the next window starts: the highest cursor value that is not in the future, minus the lookback. A row without
   a key holds it back, because once mended it comes under a key that nobody can know today; one below this run's window
   came as late as any other row there, and waits for `--full-scan` like them. Each part can use an index on the cursor. #}
{% macro read_window_start(sync) %}
  {%- set cursor = dbt_posthog_sync.model_column(sync.cursor) -%}
  {%- set type = sync.cursor.type.text -%}
  {%- set is_time = sync.cursor.type.family in ('timestamp', 'timestamp_tz', 'date') -%}
  {%- set key_is_null = dbt_posthog_sync.key_expression(sync) ~ ' is null' -%}
  select {{ dbt_posthog_sync.as_text("cast(" ~ dbt_posthog_sync.shifted('start_at', '-', sync.lookback_seconds, 'second') ~ " as " ~ type ~ ')' if is_time else 'start_at') }}
  from (
    select case when k.highest is null or n.lowest is null or n.lowest >= k.highest then k.highest else n.lowest end as start_at
    from (select max({{ cursor }}) as highest from {{ sync.relation }} m
          {%- if is_time %} where {{ cursor }} <= cast({{ dbt_posthog_sync.statement_time() }} as {{ type }}){% endif %}) k
    cross join (select min({{ cursor }}) as lowest from {{ sync.relation }} m where {{ key_is_null }}
          {%- if sync.window_start %} and {{ cursor }} >= {{ dbt_posthog_sync.cursor_literal(sync) }}{% endif %}) n) w
{% endmacro %}

{# Staged rows that lie outside the window: the other rows of a key that the window met once. #}
{% macro count_staged_outside(sync) %}
  {%- set conditions = dbt_posthog_sync.window_conditions(sync) -%}
  select count(*) from {{ sync.relation }} m
  join (select distinct sync_key from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} where sync_key is not null) c
    on c.sync_key = {{ dbt_posthog_sync.key_expression(sync) }}
  where not coalesce(({{ conditions | join(') or (') }}), false)
{% endmacro %}

{% macro count_model(sync) %}select count(*) from {{ sync.relation }} m where {{ dbt_posthog_sync.row_in_shard(sync) }}{% endmacro %}

{# Kinds of a row in the diff, and of a key that the model has no more. #}
{% macro kind(name) %}{{ return({'unchanged': 0, 'added': 1, 'changed': 2, 'removed': 3}[name]) }}{% endmacro %}

{# The diff: the rows of a kind and key, counted. Unchanged rows collapse into one counted row, so that its size is that of
   the changes and its sums are exact. #}
{% macro diff(sync) %}
  {{ dbt_posthog_sync.create_sync_table(sync, 'diff') }} as
  {{ adapter.dispatch('counted_kinds', 'dbt_posthog_sync')(sync) }}
{% endmacro %}
{% macro default__counted_kinds(sync) %}
  {%- set unchanged = dbt_posthog_sync.kind('unchanged') -%}
  {%- set identity = dbt_posthog_sync.compares_identity(sync) -%}
  select kind, sync_key, count(*) as row_count{{ ', max(delivered_identity) as delivered_identity' if identity }}
  from (
    select kind, case when kind = {{ unchanged }} then null else sync_key end as sync_key
    {%- if identity %}, case when kind = {{ dbt_posthog_sync.kind('changed') }} then delivered_identity end as delivered_identity{% endif %}
    from ({{ dbt_posthog_sync.compared_rows(sync) }}) compared
  ) collapsed
  group by kind, sync_key
{% endmacro %}

{# Each row of the model with its kind: model LEFT JOIN snapshot on the sync key. The hash is computed at the scan (see
   `pinned`). #}
{% macro compared_rows(sync) %}
  {%- set hash = dbt_posthog_sync.row_hash(sync.hashed_columns, sync.hash_seed) if not sync.compares_keys_only
      else 'cast(null as ' ~ dbt_posthog_sync.type_hash() ~ ')' -%}
  {%- set kind = dbt_posthog_sync.kind -%}
  {%- set compares_identity = dbt_posthog_sync.compares_identity(sync) -%}
  {%- set keys = dbt_posthog_sync.keys_in_window(sync) if sync.window_start or sync.only_rejects else '' -%}
  select m.sync_key, {% if compares_identity -%}
    case when g.sync_key is not null then g.identity_hash else b.identity_hash end as delivered_identity, {% endif -%}
    case
      when g.sync_key is not null and g.origin = {{ dbt_posthog_sync.origin('removed') }} then {{ kind('added') }}
      when g.sync_key is null and b.sync_key is null then {{ kind('added') }}
      {%- if not sync.compares_keys_only %}
      when case when g.sync_key is not null then g.row_hash else b.row_hash end <> m.row_hash then {{ kind('changed') }}
      {%- endif %}
      {%- if sync.has_doubts %}
      when d.sync_key is not null then {{ kind('changed') }}
      {%- endif %}
      else {{ kind('unchanged') }} end as kind
  from ({{ dbt_posthog_sync.pinned(sync, dbt_posthog_sync.key_expression(sync), hash) }}) m
  left join {{ dbt_posthog_sync.part_of_these(sync, 'base', keys) }} b on b.sync_key = m.sync_key
  left join {{ dbt_posthog_sync.latest_log(sync, keys) }} g on g.sync_key = m.sync_key
  {%- if sync.has_doubts %}
  left join {{ dbt_posthog_sync.doubts(sync) }} d on d.sync_key = m.sync_key
  {%- endif %}
{% endmacro %}

{# True where the diff tells under which name, person and day a changed event was delivered. A build did not ask. #}
{% macro compares_identity(sync) %}
  {{- return(sync.keeps_identity and not sync.compares_keys_only and not sync.is_first and not sync.build) -}}
{% endmacro %}

{# The keys of the rows that this run looks at, where these are few: what was delivered of others is left out before it is
   compared, because the warehouse would not know how few they are and prepare all of the snapshot. #}
{% macro keys_in_window(sync) %}
  {%- set key = dbt_posthog_sync.key_expression(sync) %}
  (select distinct sync_key from (
    {%- for condition in dbt_posthog_sync.window_conditions(sync) %}
    select {{ key }} as sync_key from {{ sync.relation }} m where {{ condition }}
    {%- if not loop.last %} union all{% endif %}
    {%- endfor %}) w)
{%- endmacro %}

{# Keys and hashes of the model, computed where the table is scanned and not above the join. #}
{% macro pinned(sync, key, hash) %}{{ return(adapter.dispatch('pinned', 'dbt_posthog_sync')(sync, key, hash)) }}{% endmacro %}
{% macro default__pinned(sync, key, hash) %}
  {%- for condition in dbt_posthog_sync.window_conditions(sync) %}
  select {{ key }} as sync_key, {{ hash }} as row_hash from {{ sync.relation }} m where {{ condition }}
  {%- if not loop.last %} union all{% endif %}
  {%- endfor %}
{% endmacro %}

{% macro summarise_diff(sync) %}
  select kind, sum(row_count), sum(case when sync_key is null then row_count else 0 end)
  from {{ dbt_posthog_sync.sync_table(sync, 'diff') }} group by kind
{% endmacro %}

{# The staged rows of this run: every model row whose key is new or changed, numbered, with the reason that keeps it
   from being sent. A first run reads the model once, without a diff. #}
{% macro stage(sync) %}
  {%- set compares_identity = dbt_posthog_sync.compares_identity(sync) -%}
  {{ dbt_posthog_sync.create_sync_table(sync, 'changes') }} as
  select {{ dbt_posthog_sync.numbering() }} as position, c.* from (
    select picked.sync_key, picked.row_hash, picked.identity_hash, picked.row_moment, picked.kind,
      {%- if sync.identities %}
      picked.distinct_id, picked.person_id, picked.person_number, false as is_delivered,
      {%- endif %}
      {%- if sync.has_places %}
      picked.row_place, picked.row_version, picked.is_large,
      {%- endif %}
      {% if sync.build -%}
      {% if sync.build.keeps_every %}picked.lane, picked.message, {% endif %}picked.staged_at
      {%- elif sync.copies_staging_time -%}
      coalesce(previous.staged_at, {{ dbt_posthog_sync.staging_time() }})
      {%- else -%}{{ dbt_posthog_sync.staging_time() }}{%- endif %} as staged_at,
      {% if sync.has_doubts %}d.sync_key is not null{% else %}false{% endif %} as in_doubt,
      {% if sync.has_doubts %}d.identity_hash{% else %}cast(null as {{ dbt_posthog_sync.type_hash() }}){% endif %} as doubt_identity,
      {% if compares_identity -%}
      coalesce(picked.reason, case when picked.delivered_identity <> picked.identity_hash
        then {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().identity) }} end) as reason
      {%- else -%}picked.reason{%- endif %}
    from (
      {{ dbt_posthog_sync.picked_rows(sync) }}
      {{ dbt_posthog_sync.computed_apart() }}
    ) picked
    {%- if sync.copies_staging_time %}
    left join (select sync_key, row_hash, min(staged_at) as staged_at
               from {{ dbt_posthog_sync.sync_table(sync, 'previous') }} group by sync_key, row_hash) previous
      on previous.sync_key = picked.sync_key and previous.row_hash = picked.row_hash
    {%- endif %}
    {%- if sync.has_doubts %}
    left join {{ dbt_posthog_sync.doubts(sync) }} d on d.sync_key = picked.sync_key
    {%- endif %}
  ) c
{% endmacro %}

{# Numbers rows from 1 on, in any order. #}
{% macro numbering() %}{{ return(adapter.dispatch('numbering', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__numbering() %}{{ return('row_number() over ()') }}{% endmacro %}

{# Ends a subquery whose expressions are not to move into the query around it. #}
{% macro computed_apart() %}{{ return(adapter.dispatch('computed_apart', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__computed_apart() %}{{ return('') }}{% endmacro %}

{# What makes a range of positions cheap to find; empty where tables are read by columns anyway. #}
{% macro index_staged(sync) %}{{ return(adapter.dispatch('index_staged', 'dbt_posthog_sync')(sync)) }}{% endmacro %}
{% macro default__index_staged(sync) %}{{ return('') }}{% endmacro %}

{# The moment of staging, cut to microseconds so that its text is the same everywhere. #}
{% macro staging_time() %}cast({{ dbt_posthog_sync.staging_clock() }} as {{ dbt_posthog_sync.type_moment() }}){% endmacro %}
{% macro staging_clock() %}{{ dbt_posthog_sync.statement_time() }}{% endmacro %}

{% macro picked_rows(sync) %}
  {%- if sync.build -%}{{- return(dbt_posthog_sync.built_rows(sync)) -}}{%- endif -%}
  {%- set key = dbt_posthog_sync.key_expression(sync) -%}
  {%- set kind = dbt_posthog_sync.kind -%}
  {%- set compares_identity = dbt_posthog_sync.compares_identity(sync) -%}
  {%- set body -%}
    {{ dbt_posthog_sync.row_hash(sync.hashed_columns, sync.hash_seed) }} as row_hash,
    {{ dbt_posthog_sync.identity_hash(sync) }} as identity_hash, {{ dbt_posthog_sync.row_moment(sync) }} as row_moment,
    {%- if sync.identities %}
    {{ dbt_posthog_sync.distinct_id_text(sync) }} as distinct_id, i.person_id as person_id, coalesce(i.number, 1) as person_number,
    {%- endif %}
    {%- if sync.has_places %}
    {{ dbt_posthog_sync.row_place(sync) }},
    {%- endif %}
    {{ dbt_posthog_sync.reject_reason(sync) }} as reason
  {%- endset -%}
  {%- set model = sync.relation ~ ' m' ~ dbt_posthog_sync.with_identities(sync) -%}
  {%- if sync.is_first -%}
    select {{ key }} as sync_key, {{ kind('added') }} as kind, {{ body }}
    from {{ model }}{% if sync.shard %} where {{ dbt_posthog_sync.row_in_shard(sync) }}{% endif %}
  {%- else -%}
    select {{ key }} as sync_key, d.kind as kind, {{ 'd.delivered_identity, ' if compares_identity }}{{ body }}
    from {{ model }}
    join {{ dbt_posthog_sync.sync_table(sync, 'diff') }} d on d.sync_key = {{ key }} {{ dbt_posthog_sync.left_at_scan(sync, key) }}
    {%- if sync.has_null_keys %}
    union all
    select {{ key }} as sync_key, {{ kind('added') }} as kind,
      {% if compares_identity %}cast(null as {{ dbt_posthog_sync.type_hash() }}) as delivered_identity, {% endif %}{{ body }}
    from {{ model }} where {{ key }} is null and (({{ dbt_posthog_sync.window_conditions(sync) | join(') or (') }}))
    {%- endif %}
  {%- endif -%}
{% endmacro %}

{# A `where` by which a scan leaves out rows that would meet none of the diff's; empty where the warehouse sees to that. #}
{% macro left_at_scan(sync, key) %}{{ return(adapter.dispatch('left_at_scan', 'dbt_posthog_sync')(sync, key)) }}{% endmacro %}
{% macro default__left_at_scan(sync, key) %}{{ return('') }}{% endmacro %}

{# Staged rows whose key was there before. Nearly always none, and to know that costs half of what rejecting none does. #}
{% macro count_repeated_keys(sync) %}
  {%- set key = adapter.dispatch('sortable', 'dbt_posthog_sync')('sync_key', sync.key.type) -%}
  select count(sync_key) - count(distinct {{ key }}) from {{ dbt_posthog_sync.sync_table(sync, 'changes') }}
  {%- if sync.identities %} where person_number = 1{% endif %}
{% endmacro %}
{% macro default__sortable(expression, type) %}{{ return(expression) }}{% endmacro %}

{# Every row of a key that the model has more than once is rejected: which of them is meant, nobody can say. #}
{% macro reject_duplicates(sync) %}
  update {{ dbt_posthog_sync.sync_table(sync, 'changes') }} set reason = {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().duplicate) }}
  where sync_key in (select sync_key from {{ dbt_posthog_sync.sync_table(sync, 'changes') }}
                     where sync_key is not null{% if sync.identities %} and person_number = 1{% endif %}
                     group by sync_key having count(*) > 1)
{% endmacro %}

{# Positions of staged rows that compare so with what was delivered of them. Joins of their own, because a condition of the
   update would have the warehouse sort all of the snapshot for the sake of a few staged rows; and with base and log apart,
   because read as one, each row of the base is compared with the log before it meets a staged row. #}
{% macro staged_beside_snapshot(sync, condition) %}
  {%- set changes = dbt_posthog_sync.sync_table(sync, 'changes') -%}
  select c.position from {{ changes }} c
  join {{ dbt_posthog_sync.sync_table(sync, 'base') }} s on s.sync_key = c.sync_key
  where c.reason is null and {{ condition }}
    and not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'log') }} g where g.sync_key = c.sync_key)
  union all
  select c.position from {{ changes }} c
  join {{ dbt_posthog_sync.latest_log(sync) }} s on s.sync_key = c.sync_key
  where c.reason is null and s.origin <> {{ dbt_posthog_sync.origin('removed') }} and {{ condition }}
{%- endmacro %}

{# An event that was delivered with another name, person or day cannot be replaced: PostHog would keep both. What a build
   staged is compared here; elsewhere the diff has seen to it. #}
{% macro reject_moved_identities(sync) %}
  update {{ dbt_posthog_sync.sync_table(sync, 'changes') }} as c set reason = {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().identity) }}
  where c.position in ({{ dbt_posthog_sync.staged_beside_snapshot(sync, 's.identity_hash <> c.identity_hash') }})
{% endmacro %}

{# An event that an interrupted run may have sent under another name, person or day. #}
{% macro reject_doubtful_identities(sync) %}
  update {{ dbt_posthog_sync.sync_table(sync, 'changes') }} set reason = {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().doubtful) }}
  where reason is null and in_doubt and doubt_identity <> identity_hash
{% endmacro %}

{# A person's or group's row that is older than what PostHog has of it; PostHog applies properties in order of arrival
   (PostHog/posthog issue 37000), so the older row would win. #}
{% macro reject_stale(sync) %}
  update {{ dbt_posthog_sync.sync_table(sync, 'changes') }} as c set reason = {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().stale) }}
  where c.position in ({{ dbt_posthog_sync.staged_beside_snapshot(sync, 's.row_moment > c.row_moment') }})
{% endmacro %}

{# A row that PostHog refused and that has not changed since keeps its reason and is not sent again. Our own reasons are
   found anew each time: a duplicate can be gone without a change of the row that is left. Rows under way in a retry that
   did not end are pending: PostHog may have them, so this run must end what that one began. #}
{% macro reject_refused_before(sync) %}
  {%- set refused %}
  c.reason is null
    and r.sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and r.resolved_at is null and r.try_again = 'on change'
    and r.reason not in ({% for reason in dbt_posthog_sync.reasons().values() %}{{ dbt_posthog_sync.literal(reason) }}{{ ', ' if not loop.last }}{% endfor %})
    and r.sync_key = {{ dbt_posthog_sync.as_text('c.sync_key') }} and r.row_hash = c.row_hash
  {%- endset -%}
  {%- set under_way %}
  not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'previous') }} p
    where {{ dbt_posthog_sync.as_text('p.sync_key') }} = r.sync_key and p.row_hash = r.row_hash and p.reason is null)
  {%- endset -%}
  {{ dbt_posthog_sync.update_from(dbt_posthog_sync.sync_table(sync, 'changes'), 'c', {'reason': 'r.reason'},
    dbt_posthog_sync.state_table(sync.schema, 'rejected_rows'), 'r', refused, under_way if sync.continues_retry else 'true') }}
{% endmacro %}

{% macro summarise_changes(sync) %}
  select kind, reason, count(*), min({{ dbt_posthog_sync.as_text('sync_key') }}),
    case when {{ dbt_posthog_sync.is_skip('reason') }} then 1 else 0 end,
    {{ 'sum(case when person_number > 1 then 1 else 0 end)' if sync.identities else '0' }}
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} group by kind, reason order by kind, reason
{% endmacro %}
