-- One row a page view. Incremental: a run looks at the last day it knows and at what came after.
{{ config(materialized='incremental', unique_key='page_view_id') }}

select
    page_views.page_view_id,
    page_views.session_id,
    coalesce(page_views.customer_id, page_views.visitor_id) as distinct_id,
    page_views.customer_id,
    customers.account_id,
    page_views.viewed_at,
    page_views.url,
    page_views.host,
    page_views.path,
    page_views.utm_source,
    page_views.utm_medium,
    page_views.utm_campaign,
    page_views.referrer,
    page_views.referring_domain,
    page_views.title,
    page_views.device_type,
    page_views.browser
from {{ ref('stg_page_views') }} as page_views
left join {{ ref('stg_customers') }} as customers on customers.customer_id = page_views.customer_id
{% if is_incremental() %}
where page_views.viewed_at > (select max(viewed_at) - interval '1 day' from {{ this }})
{% endif %}
