"""Payment, commerce, finance, customers, mail and marketing.

Follows the public API references of the services: Stripe, Square, PayPal and Braintree, Adyen, Plaid, Razorpay,
Flutterwave, Paystack, Shopify, HubSpot, Salesforce, Mailchimp, SendGrid, Postmark, Brevo, EasyPost, Lob and others.
"""

from plugins.secrets.checks import is_random
from plugins.secrets.rule import Rule, keyed, literal, long, named

RULES = (
    *long(
        "secrets.saas",
        r"""
        workato-token                wrka(?:us|eu|jp|sg|au|il)?-eyJ[\w.-]{40}  \w.-
        facebook-token               \bEAA[A-Za-z]{1,3}[A-Za-z0-9]{60}  A-Za-z0-9
        linkedin-token               \bAQ[UVWXYZ][\w-]{100}  \w-
        microsoft-refresh-token      \b[01]\.A[\w-]{40,80}\.Ag[\w-]{60}  \w.-
        dropbox-token                \bsl\.[\w-]{60}  \w.-
        instagram-token              \bIGQ[A-Za-z][\w-]{60}  \w-
        """,
    ),
    *literal(
        "secrets.payment",
        r"""
        stripe-key                   \b[rs]k_(?:live|test|prod)_[\w+/=]{10,}
        stripe-uuid-key              \bsk_(?:sbox_|test_)?[0-9a-z]{8}-[0-9a-z]{4}-[0-9a-z-]{20,}
        stripe-webhook-secret        whsec_[A-Za-z0-9+/=]{24,}
        square-access-token          \bEAAA[\w-]{28,64}
        square-token                 \bsq0[a-z]{3}-[\w-]{22,}
        paypal-braintree-token       access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}
        adyen-key                    \bAQE[a-z0-9][\w+/=.-]{50,}
        razorpay-key                 rzp_(?:live|test)_[A-Za-z0-9]{12,}
        flutterwave-key              FLW(?:SECK|PUBK)(?:_TEST)?-?[0-9A-Za-z-]{10,}
        plaid-access-token           \b(?:access|public|link)-(?:sandbox|development|production)-[0-9a-f-]{30,}
        gocardless-token             live_[\w=-]{40}
        checkout-key                 \b[sp]k_(?:test_)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{20,}
        easypost-key                 EZ[AT]K[A-Za-z0-9]{50,}
        lob-key                      \b(?:live|test)_(?:pub_)?[0-9a-f]{31,40}\b
        asaas-key                    \$aact_[\w:=+/-]{30,}
        mercury-token                mercury_(?:production|sandbox)_[\w]{20,}
        ramp-secret                  ramp_(?:sec|tok|id)_[A-Za-z0-9]{30,}
        polar-token                  polar_[a-z]{2,6}_[\w-]{24,}
        paddle-key                   pdl_(?:live|sdbx)_apikey_[\w]{20,}
        duffel-token                 duffel_(?:test|live)_[\w=-]{40,}
        shippo-token                 shippo_(?:live|test)_[0-9a-f]{32,}
        flexport-token               shltm_[\w-]{36,}
        conekta-key                  key_(?:live_)?[A-Za-z0-9]{18,24}\b
        midtrans-key                 \bMid-(?:server|client)-[\w-]{16,}
        xendit-key                   xnd_(?:production|development)_[A-Za-z0-9]{30,}
        omise-key                    \b[sp]key_(?:test_)?[0-9a-z]{19,}
        mollie-key                   \b(?:live|test)_[A-Za-z0-9]{30,}\b
        shopify-token                shp(?:at|ca|pa|ss|ua|tka|lka)_[0-9a-fA-F]{32}
        shopify-partner-token        prtapi_[0-9a-f]{32}
        fleetbase-key                flb_(?:live|test)_[A-Za-z0-9]{16,}
        proof-key                    prf_[\w]{30,}
        finom-revolut-token          \boa_(?:prod|sand)_[\w-]{40,}
        ebay-secret                  \b(?:PRD|SBX)-[0-9a-f]{8,12}(?:-[0-9a-f]{4,8}){3,4}
        ebay-token                   \bv\^1\.1#[A-Za-z0-9#^/+=]{40,}
        klaviyo-key                  \bpk_[0-9a-zA-Z]{34,}
        """,
    ),
    *literal(
        "secrets.saas",
        r"""
        hubspot-token                pat-(?:na|eu|ap)\d?-[0-9a-fA-F-]{36}
        salesforce-token             \b00D[A-Za-z0-9]{12,15}![\w.]{80,}
        salesforce-refresh-token     5Aep[\w.]{60,}
        intercom-token               dG9rO[A-Za-z0-9+/]{50,}={0,2}
        mailgun-key                  key-[0-9a-z]{32}\b
        sendgrid-key                 SG\.[\w-]{16,32}\.[\w-]{30,}
        sendinblue-key               xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}
        brevo-smtp-key               xsmtpsib-[0-9a-f]{64}-[A-Za-z0-9]{16}
        mailersend-token             mlsn\.[A-Za-z0-9]{50,}
        resend-key                   \bre_[A-Za-z0-9_]{24,}
        customerio-key               app_[0-9a-f]{32,}
        typeform-token               tfp_[\w.=-]{40,}
        airtable-token               \bpat[A-Za-z0-9]{14}\.[0-9a-f]{64}
        notion-token                 \b(?:ntn|nrt)_[A-Za-z0-9]{40,}
        notion-secret                secret_[A-Za-z0-9]{43}\b
        linear-key                   lin_(?:api|oauth)_[A-Za-z0-9]{36,}
        clickup-token                \bpk_\d{5,10}_[A-Z0-9]{32}
        canva-secret                 \bcnvca[\w-]{40,}
        contentful-token             CFPAT-[\w-]{40,}
        frameio-token                fio-u-[\w=-]{60,}
        readme-key                   rdme_[a-z0-9]{60,}
        courier-key                  \bpk_(?:prod|test)_[A-Z0-9]{28}
        apify-token                  apify_api_[A-Za-z0-9]{30,}
        supernotes-key               supernotes_[a-z]{2}-[\w-]{30,}
        rainforest-key               apikey_[0-9a-f]{60,}
        adobe-client-secret          p8e-[\w-]{32}
        mapbox-token                 \b[spt]k\.eyJ[A-Za-z0-9_-]{40,}\.[\w-]{20,}
        riot-key                     RGAPI-[0-9a-z]{8}-[0-9a-z-]{27}
        lichess-token                \bli[po]_[A-Za-z0-9]{16,}
        intra42-secret               s-s4t2(?:ud|af)-[0-9a-f]{64}
        tiktok-access-token          act\.[A-Za-z0-9!]{40,}
        twitter-bearer-token         \bAAAAAAAAAAAAAAAAAAAAA[A-Za-z0-9%]{60,}
        linkedin-client-secret       WPL_AP\d\.[\w.=]{16,}
        close-key                    api_[A-Za-z0-9]{22}\.[A-Za-z0-9]{22}\b
        zoho-token                   1000\.[0-9a-f]{32}\.[0-9a-f]{32}\b
        databento-key                \bdb-[A-Za-z0-9]{28,30}\b
        cal-key                      \b(?:plane_api|cal_live|cal)_[0-9a-f]{32}
        """,
    ),
    Rule(
        "hubspot-api-key",
        r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f-]{22}",
        named(r"hubspot|hapikey"),
        check=is_random,
        group="secrets.saas",
    ),
    *keyed(
        "secrets.payment",
        """
        binance-key                  binance                   alnum:64
        bittrex-key                  bittrex                   alnum:32
        bitfinex-key                 bitfinex                  alnum:43
        coinbase-old-key             coinbase                  word:32
        coinapi-key                  coinapi                   word:32
        finicity-key                 finicity                  alnum:20
        finnhub-key                  finnhub                   alnum:20
        freshbooks-token             freshbooks                alnum:64
        gocardless-old-key           gocardless                word:40
        iex-key                      iexapis|iexcloud          word:32
        intrinio-key                 intrinio                  base64:32
        kraken-key                   kraken                    base64:56
        kucoin-key                   kucoin                    alnum:24
        kucoin-secret                kucoin                    uuid
        nasdaq-key                   nasdaq|quandl             word:20
        paypal-secret                paypal                    word:60
        plaid-secret                 plaid                     alnum:24
        recurly-key                  recurly                   alnum:32
        chargify-key                 chargify                  alnum:40
        square-old-token             square                    uuid
        squarespace-key              squarespace               uuid
        stripe-old-key               stripe                    alnum:24
        taxjar-key                   taxjar                    alnum:32
        tiingo-key                   tiingo                    hex:40
        twelvedata-key               twelvedata|twelve_data    hex:32
        worldpay-key                 worldpay                  word:32
        xero-secret                  xero                      word:48
        """,
    ),
    *keyed(
        "secrets.saas",
        """
        adobe-client-id              adobe                     hex:32
        airtable-key                 airtable                  alnum:17
        algolia-key                  algolia                   hex:32
        asana-token                  asana                     any:30
        asana-secret                 asana                     alnum:16
        beamer-key                   beamer                    dotted:40
        calendly-key                 calendly                  dotted:32
        contentful-key               contentful                word:43
        delighted-key                delighted                 alnum:32
        disqus-key                   disqus                    alnum:64
        eventbrite-token             eventbrite                alnum:20
        facebook-app-token           facebook|fb_app           any:40
        facebook-secret              facebook                  hex:32
        flickr-key                   flickr                    hex:32
        foursquare-key               foursquare                alnum:40
        freshdesk-key                freshdesk                 alnum:20
        front-key                    front                     dotted:60
        fullstory-key                fullstory                 base64:40
        google-recaptcha-secret      recaptcha                 word:40
        instagram-secret             instagram                 hex:32
        iterable-key                 iterable                  hex:32
        keenio-key                   keen                      alnum:48
        linkedin-secret              linkedin                  alnum:14
        lunchmoney-key               lunchmoney                hex:50
        mailchimp-key                mailchimp                 word:32
        mailgun-signing-key          mailgun                   word:32
        maxmind-key                  maxmind|license_key       word:16
        miro-token                   miro                      word:27
        lark-token                   lark|feishu               word:30
        lark-app-id                  lark_app|feishu_app       word:20
        mapquest-key                 mapquest                  alnum:32
        newsapi-key                  newsapi                   hex:32
        openweather-key              openweather|owm          hex:32
        pagerduty-key                pagerduty                 word:20
        pastebin-key                 pastebin                  alnum:32
        pendo-key                    pendo                     word:36
        postmark-token               postmark                  uuid
        rocketreach-key              rocketreach               word:20
        sendbird-token               sendbird                  hex:40
        shutterstock-key             shutterstock              any:40
        spotify-secret               spotify                   hex:32
        strava-secret                strava                    hex:40
        surveymonkey-token           surveymonkey              dotted:60
        tickettailor-key             tickettailor              word:36
        ticketmaster-key             ticketmaster              alnum:32
        todoist-token                todoist                   hex:40
        trello-key                   trello                    alnum:32
        twitch-secret                twitch                    alnum:30
        twitter-secret               twitter|(?:\b|_)x_api             word:25
        typeform-old-token           typeform                  word:40
        unsplash-key                 unsplash                  word:43
        virustotal-key               virustotal|vt_api         hex:64
        yelp-key                     yelp                      word:60
        youtube-key                  youtube                   word:39
        zendesk-token                zendesk                   alnum:40
        zoom-secret                  zoom                      alnum:32
        """,
    ),
)
