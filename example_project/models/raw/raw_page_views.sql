-- Page views as a web tracker writes them: 2,800 sessions before shop_today.
-- Every day that passes brings ten sessions of four views: seven by the customers who upgrade that day, three by strangers.
{% set days = var('shop_day') | int %}
with sessions as (

    select
        numbers.n,
        customers.customer_id,
        case when customers.customer_id is null then 1 + {{ draw_low('visitor day', 'numbers.n', 240) }}
            else 1 + mod({{ draw('session day', 'numbers.n', 1000003) }}, customers.signed_up_days_ago - 1)
        end as days_ago,
        1 + {{ draw_low('session length', 'numbers.n', 7) }} as page_views
    from ({{ series(1, 2800) }}) as numbers
    left join {{ ref('raw_customers') }} as customers
        on {{ draw('is known', 'numbers.n', 100) }} < 55
        and customers.customer_number = 1 + {{ draw_low('visiting customer', 'numbers.n', 2000) }}
    union all
    select
        2790 + 10 * days.n + visits.n as n,
        customers.customer_id,
        1 - days.n as days_ago,
        4 as page_views
    from ({{ series(1, days) }}) as days
    cross join ({{ series(1, 10) }}) as visits
    left join {{ ref('raw_customers') }} as customers
        on visits.n <= 7 and customers.upgrade_place = 7 * days.n - 7 + visits.n

),

started as (

    select
        *,
        coalesce(customer_id, cast({{ draw('visitor', 'n', 900) }} as text)) as visitor,
        {{ daytime('session time', 'n', 'days_ago') }} as started_ms,
        1 + {{ draw_low('campaign', 'n', 8) }} as campaign_id,
        {{ draw('device', 'n', 100) }} as device_draw,
        {{ draw('browser', 'n', 100) }} as browser_draw,
        md5('session:' || cast(n as text)) as noise
    from sessions

),

identified as (

    -- PostHog wants a UUIDv7 that holds the start of the session: 48 bits of milliseconds, version, variant, noise.
    select
        *,
        lpad(lower(to_hex({{ shop_today_epoch() }} + started_ms)), 12, '0') as started_hex
    from started

),

views as (

    select
        identified.*,
        steps.n as step,
        'https://www.shop.example' || pages.path || case
            when steps.n = 1 and campaigns.source is not null
                then '?utm_source=' || campaigns.source || '&utm_medium=' || campaigns.medium
                    || '&utm_campaign=' || campaigns.campaign
            else ''
        end as url,
        pages.title,
        campaigns.referrer as first_referrer,
        started_ms + case when steps.n = 1 then 50 + {{ draw('load', 'identified.n', 900) }}
            else (steps.n - 1) * 45000 + {{ draw('pause', 'identified.n * 10 + steps.n', 40000) }} end as viewed_ms
    from identified
    inner join ({{ series(1, 7) }}) as steps on steps.n <= identified.page_views
    inner join {{ ref('pages') }} as pages
        on pages.id = 1 + {{ draw_low('page', 'identified.n * 10 + steps.n', 14) }}
    inner join {{ ref('campaigns') }} as campaigns on campaigns.id = identified.campaign_id

)

select
    cast(md5('page view:' || cast(n as text) || ':' || cast(step as text)) as uuid) as page_view_id,
    substr(started_hex, 1, 8) || '-' || substr(started_hex, 9, 4) || '-7' || substr(noise, 1, 3)
    || '-a' || substr(noise, 4, 3) || '-' || substr(noise, 7, 12) as session_id,
    cast(cast(md5('visitor:' || visitor) as uuid) as text) as visitor_id,
    customer_id,
    {{ moment('viewed_ms') }} as viewed_at,
    url,
    case when step = 1 then first_referrer else lag(url) over (partition by n order by step) end as referrer,
    title,
    case when device_draw < 58 then 'Desktop' when device_draw < 93 then 'Mobile' else 'Tablet' end as device_type,
    case
        when browser_draw < 55 then 'Chrome' when browser_draw < 80 then 'Safari'
        when browser_draw < 93 then 'Firefox' else 'Edge'
    end as browser
from views
