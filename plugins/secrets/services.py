"""Services of every kind that fewer companies use: their tokens' own forms, and one rule for their names.

Follows the services' public API references and the token formats that they publish for secret scanning.
"""

from collections.abc import Iterator
from typing import Final

from plugins.secrets.checks import is_prefixed, is_random, is_strictly_random
from plugins.secrets.rule import Rule, bounded, literal, named

# Services whose keys have no form of their own: any random value assigned to something with such a name.
_NAMES: Final = (
    "abstractapi abuseipdb accuweather activecampaign acuity adafruit agora aha_ airbyte airtel akeyless alienvault "
    "alphavantage alpha_vantage amadeus anypoint apiflash apilayer apitemplate apollo_ appcenter appsflyer appsmith "
    "appveyor appwrite arize atera autodesk avalara aviationstack avaza backblaze balena bamboohr bandwidth "
    "bannerbear baremetrics betterstack betteruptime bigcommerce billcom bitly bitwarden blockchair blockfrost "
    "bluesnap botify box_ branch_io braze brevo browserbase browserless browserstack bscscan bugfender bybit "
    "calendarific callrail carto cartesia censys centrify cerbos chargebee chartmogul checkmarx chorus clearbit "
    "clerk_ clicksend clockify cloudconvert cloudinary cloudsmith cloudways cobalt coda_ codefresh codesandbox "
    "coinbase coinmarketcap comet_ commercetools conductor convertkit copper_ copyleaks courier cratedb crunchbase "
    "currencylayer cyberark cypress d7networks dailyco dashlane datagov dataforseo datarobot datocms deepai deepinfra "
    "deepseek deepsource deployhq descope detectify dhl_ diffbot digicert discourse docparser docusign dovetail "
    "dwolla dynadot edamam elasticemail embedly enphase envkey envoy_ eodhd etsy exchangerate expensify facepp "
    "fastspring fedex fidel fivetran fixer_ flightaware flickr_ formspree fossa fourplay freshservice friendli "
    "fusionauth gemfury geocodio getresponse ghost_ giphy gitbook gitee gitguardian glassnode gradle_enterprise "
    "graphcms greenhouse greynoise groovehq guardian_api gumroad gusto hcaptcha heap_ helpscout here_api "
    "heyreach hibp hightouch hootsuite hotjar hunter_ hygraph ideogram imgbb imgix imgur infobip inngest "
    "insightly instacart ip2location ipapi ipdata ipinfo ipqualityscore ipstack jsonbin kagi kayako keycloak "
    "kaleyra knock_ kolide lacework lambdatest lastfm lemonsqueezy leonardo lever_ line_channel liveblocks livekit "
    "locationiq logdna logrocket logtail lokalise loops_ luma_ magento mailboxlayer mailerlite mailjet make_com "
    "mandrill mapbox marketo meilisearch meraki messente metabase moralis mouser_ mux_ namely nanonets "
    "neptune nasa_api netsuite nexmo noaa_ nomic nordigen northpass novu_ numverify nutritionix nylas nytimes "
    "octoai omdb oneidentity onesignal opencage openexchangerates opensea opentok optimizely orca_ outreach oxylabs "
    "packagecloud pagertree paddle pandadoc parse_rest partnerstack paystack paytm payu percy_ pexels pingdom "
    "pinterest pipedream pipedrive pixabay plagiarism plausible playht podio polygon_io portkey prismic "
    "productboard pubmatic pulsedive qdrant qualaroo qualtrics quickbase quickbooks quicknode quip_ railsbank "
    "rapid7 rebrandly recharge_ reddit refiner_ replit retool revenuecat ringcentral roam_ roboflow rudderstack "
    "sambanova samsara sanity_ saucelabs scaleserp scrapfly scraperapi scrapingbee securitytrails semaphore "
    "semrush sendcloud sendinblue serpapi serper sharefile shipstation shodan shortcut signalwire sinch "
    "sightengine singlestore sirv_ siteground skyscanner slite_ smartsheet smartthings smartling smsapi "
    "socket_dev sparkpost spoonacular sportradar spryker stackblitz steam_ storyblok stormglass strapi "
    "streamlabs sumup supertokens surrealdb swagger swell_ taboola talkdesk tatum taxamo teamviewer tenable "
    "thetvdb thousandeyes timescale tmdb tomtom totango transifex travelport trendmicro trustpilot turso twingate "
    "twocaptcha typesense ucare uploadcare urlscan userlist userstack vapi_ veracode verifalia veriff "
    "vimeo visualcrossing vonage voximplant walmart weatherapi weatherbit weatherstack webflow webscraping "
    "wepay whatsapp whoisxml wistia wit_ai woocommerce wordnik workable workday workos wrike xata_ xendit "
    "yahoo yext zapier zenserp zeplin zerobounce zerotier zhipu zilliz zipcode zulip"
)

_TOGETHER: Final = 90  # names; a rule that starts with more literals would be looked for everywhere


def _of_services() -> Iterator[Rule]:
    names = _NAMES.split()
    for some in (names[start : start + _TOGETHER] for start in range(0, len(names), _TOGETHER)):
        yield Rule(
            "service-key",
            bounded("[0-9A-Za-z+/=_.:-]{16,}"),
            named("|".join(some)),
            check=is_prefixed,
            group="secrets.saas",
        )


RULES = (
    *literal(
        "secrets.cloud",
        r"""
        aiven-service-password       \bAVNS_[\w-]{16,}
        baidu-access-key-id          \bALTAK[A-Za-z0-9]{20,}
        volcengine-access-key-id     \bAKLT[\w-]{40,}
        yandex-access-key-id         \bYCAJE[\w-]{20}\b
        cloudflare-tunnel-token      \beyJhIjoi[A-Za-z0-9+/_-]{60,}={0,2}
        xata-key                     \bxau_[A-Za-z0-9]{30,}
        fauna-key                    \bfnA[A-F][\w-]{36}\b
        deno-deploy-token            \bdd[pw]_[A-Za-z0-9]{36,}
        okta-ssws-token              SSWS ~ 00[\w-]{36,44}
        bitwarden-machine-token      \b0\.[0-9a-f-]{36}\.[A-Za-z0-9]{30}:[A-Za-z0-9+/]{22}==
        inngest-signing-key          signkey-(?:prod|test|branch)-[0-9a-f]{32,}
        trigger-dev-key              \btr_(?:dev|prod|stg|preview|pat)_[A-Za-z0-9]{16,}
        """,
    ),
    *literal(
        "secrets.vcs",
        r"""
        jetbrains-token              \bperm[:-][A-Za-z0-9+/=]{3,60}\.[A-Za-z0-9+/=-]{2,60}\.[A-Za-z0-9]{20,}
        buildkite-other-token        \bbk(?:at|ct|aj|pt|pi|rt)_[\w-]{30,}
        packagist-token              packagist_[a-z]{2,4}_[0-9a-f]{40,}
        jsr-token                    \bjsr[dpt]_[A-Za-z0-9]{30,}
        open-vsx-token               ovsx(?:p|at)_[\w-]{30,}
        socket-key                   sktsec_[\w-]{30,}
        endor-key                    endr\+[A-Za-z0-9+/_-]{16,}
        trello-token                 \bATTA[0-9A-Za-z]{60,}
        apollo-key                   \b(?:service|user):[\w.-]{1,60}:[\w-]{22}\b
        """,
    ),
    *literal(
        "secrets.ai",
        r"""
        nomic-key                    \bnk-[\w-]{40,}
        cartesia-key                 sk_car_[\w-]{20,}
        windsurf-key                 sk-ws-[\w-]{30,}
        friendli-token               \bflp_[A-Za-z0-9]{40,}
        neptune-token                \beyJhcGlfYWRkcmVzcyI6[A-Za-z0-9+/]{40,}={0,2}
        brave-search-key             \bBSA[\w-]{24,}
        roboflow-key                 \brf_[A-Za-z0-9]{20,}
        """,
        check=is_random,
    ),
    Rule(
        "dify-key",
        bounded("[A-Za-z0-9]{24,}"),
        r"\b(?:app|dataset|workflow)-",
        check=is_strictly_random,
        group="secrets.ai",
    ),
    *literal(
        "secrets.messaging",
        r"""
        telnyx-key-v2                \bKEY0[0-9A-F]{15,}_[A-Za-z0-9]{16,}
        mandrill-key                 \bmd-[A-Za-z0-9_-]{22}\b
        onesignal-key                os_v2_(?:app|org)_[a-z0-9]{60,}
        convertkit-key               \bkit_[0-9a-f]{32,}
        """,
        check=is_random,
    ),
    *literal(
        "secrets.payment",
        r"""
        klarna-key                   klarna_(?:live|test)_(?:api|client)_[\w=+/-]{20,}
        mercadopago-token            \b(?:APP_USR|TEST)-\d{10,18}-\d{6}-[0-9a-f]{32}-\d{4,12}
        coinbase-key-name            organizations/[0-9a-f-]{36}/apiKeys/[0-9a-f-]{36}
        woocommerce-key              \bc[ks]_[0-9a-f]{40}\b
        """,
    ),
    *literal(
        "secrets.saas",
        r"""
        expo-push-token              Expo(?:nent)?PushToken\[[\w-]{20,}\]
        pinterest-token              \bpin[ar]_[A-Z0-9]{40,}
        samsara-token                samsara_api_[A-Za-z0-9]{20,}
        n8n-key                      n8n_api_[\w.-]{30,}
        retool-token                 retool_[0-9a-zA-Z]{20,}
        roblox-cookie                _\|WARNING:-DO-NOT-SHARE-THIS[^\s"']{60,}
        adafruit-key                 \baio_[A-Za-z0-9]{28}\b
        airtable-oauth-token         \boaa[A-Za-z0-9]{14}\.[\w-]{40,}
        """,
    ),
    *_of_services(),
)
