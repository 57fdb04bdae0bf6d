-- Page views with the parts of their URL.
select
    page_view_id,
    session_id,
    visitor_id,
    customer_id,
    viewed_at,
    url,
    split_part(split_part(url, '://', 2), '/', 1) as host,
    split_part(substr(url, length('https://www.shop.example') + 1), '?', 1) as path,
    nullif(split_part(split_part(url, 'utm_source=', 2), '&', 1), '') as utm_source,
    nullif(split_part(split_part(url, 'utm_medium=', 2), '&', 1), '') as utm_medium,
    nullif(split_part(split_part(url, 'utm_campaign=', 2), '&', 1), '') as utm_campaign,
    referrer,
    nullif(split_part(split_part(referrer, '://', 2), '/', 1), '') as referring_domain,
    title,
    device_type,
    browser
from {{ ref('raw_page_views') }}
