-- Companies as the shop's database holds them. Every day that passes, two of them buy ten seats more.
with companies as (

    select
        companies.id + 30 * copies.n as number,
        companies.name || case copies.n
            when 0 then '' when 1 then ' Group' when 2 then ' Labs' when 3 then ' & Sons' else ' International'
        end as name,
        companies.domain || case copies.n
            when 0 then '' when 1 then '-group' when 2 then '-labs' when 3 then '-sons' else '-int'
        end || '.example' as domain,
        companies.industry
    from {{ ref('companies') }} as companies
    cross join ({{ series(0, 4) }}) as copies

),

drawn as (

    select
        *,
        2 + {{ draw('account seats', 'number', 60) }} as first_seats,
        {{ draw('account plan', 'number', 100) }} as plan_draw,
        1 + {{ draw_low('account country', 'number', 12) }} as country_id,
        {{ draw('account active', 'number', 100) }} >= 6 as is_active,
        {{ daytime('account time', 'number', '245 + ' ~ draw('account day', 'number', 300)) }} as created_ms,
        row_number() over (order by {{ draw('account growth', 'number', 1000000007) }}, number) as growth_place
    from companies

)

select
    'A-' || lpad(cast(number as text), 4, '0') as account_id,
    number as account_number,
    drawn.name as account_name,
    domain,
    industry,
    lower(countries.code) as country_code,
    case when plan_draw < 50 then 'starter' when plan_draw < 85 then 'team' else 'scale' end as plan,
    first_seats + case when growth_place <= 2 * {{ var('shop_day') | int }} then 10 else 0 end as seats,
    is_active,
    {{ moment('created_ms') }} as created_at
from drawn
inner join {{ ref('countries') }} as countries on countries.id = drawn.country_id
