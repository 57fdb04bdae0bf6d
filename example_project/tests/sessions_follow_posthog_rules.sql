-- PostHog leaves out sessions whose id is not a UUIDv7, is shared by two persons, or begins after an event of the
-- session or more than a day before one.
with sessions as (

    select
        session_id,
        {{ hex_to_bigint("replace(substr(session_id, 1, 13), '-', '')") }} as started,
        min(extract(epoch from viewed_at) * 1000) as first_view,
        max(extract(epoch from viewed_at) * 1000) as last_view,
        count(distinct distinct_id) as persons
    from {{ ref('page_views') }}
    group by session_id

)

select session_id
from sessions
where persons > 1
    or substr(session_id, 15, 1) <> '7'
    or substr(session_id, 20, 1) not in ('8', '9', 'a', 'b')
    or length(session_id) <> 36
    or started > first_view
    or started + 86400000 <= last_view
