-- One row a company, with the number of its people and what it pays a month.
with members as (

    select account_id, count(*) as members
    from {{ ref('stg_customers') }}
    where account_id is not null
    group by account_id

)

select
    accounts.account_id,
    accounts.account_name,
    accounts.domain,
    accounts.industry,
    accounts.country_code,
    countries.name as country_name,
    accounts.plan_name,
    accounts.seats,
    coalesce(members.members, 0) as members,
    cast(accounts.seats * case accounts.plan_name when 'starter' then 9.00 when 'team' then 14.50 else 22.00 end
        as numeric(10, 2)) as mrr_eur,
    accounts.is_active,
    accounts.created_at
from {{ ref('stg_accounts') }} as accounts
left join {{ ref('countries') }} as countries on countries.code = accounts.country_code
left join members on members.account_id = accounts.account_id
