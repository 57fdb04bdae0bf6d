-- Companies, with the country code in capitals.
select
    account_id,
    account_name,
    domain,
    industry,
    upper(country_code) as country_code,
    plan as plan_name,
    cast(seats as bigint) as seats,
    is_active,
    created_at
from {{ ref('raw_accounts') }}
