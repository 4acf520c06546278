"""Messaging, telephony, webhooks, monitoring and analytics.

Follows Slack's "Token types", Discord's and Telegram's bot references, Twilio's API keys, Microsoft's incoming
webhooks, and the key pages of Datadog, New Relic, Sentry, Grafana, Dynatrace, PostHog, PagerDuty and others.
"""

from plugins.secrets.rule import keyed, literal, long

RULES = (
    *long(
        "secrets.messaging",
        r"""
        slack-config-token           \bxoxe\.(?:xox[bp]-)?\d-[A-Za-z0-9]{30}  \w-
        """,
    ),
    *long(
        "secrets.monitoring",
        r"""
        sentry-org-token             sntrys_[A-Za-z0-9+/=_-]{40}  \w+/=-
        """,
    ),
    *literal(
        "secrets.messaging",
        r"""
        slack-token                  \bxox[a-z]-[A-Za-z0-9-]{10,}
        slack-app-token              xapp-\d-[A-Za-z0-9]{6,}-[A-Za-z0-9-]{16,}
        slack-webhook                hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/_-]{20,}
        slack-gov-webhook            hooks\.slack-gov\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/_-]{20,}
        discord-webhook              discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/\d{17,20}/[\w-]{40,}
        discord-bot-token            \b[MNO][A-Za-z\d_-]{22,27}\.[\w-]{6}\.[\w-]{27,}
        discord-mfa-token            mfa\.[\w-]{80,}
        telegram-bot-token           :AA[EFGH][\w-]{32}
        teams-webhook                webhook\.office(?:365)?\.com/webhookb2/[\w@./-]{60,}
        teams-old-webhook            outlook\.office(?:365)?\.com/webhook/[\w@./-]{60,}
        power-automate-webhook       logic\.azure\.com(?::443)?/workflows/[^\s"'<>]{60,}
        google-chat-webhook          chat\.googleapis\.com/v1/spaces/[\w-]{6,}/messages\?key=[^\s"'<>]{40,}
        zapier-webhook               hooks\.zapier\.com/hooks/catch/\d{4,}/[A-Za-z0-9]{6,}
        ifttt-webhook                maker\.ifttt\.com/trigger/[\w-]{1,60}/with/key/[\w-]{20,}
        mattermost-webhook           /hooks/ ~ [a-z0-9]{26}\b
        lark-webhook                 open\.(?:feishu|larksuite)\.(?:cn|com)/open-apis/bot/v2/hook/[\w-]{30,}
        dingtalk-webhook             oapi\.dingtalk\.com/robot/send\?access_token=[0-9a-f]{60,}
        wecom-webhook                qyapi\.weixin\.qq\.com/cgi-bin/webhook/send\?key=[\w-]{30,}
        twilio-key                   \bSK[0-9a-fA-F]{32}\b
        twilio-account-sid           \bAC[0-9a-f]{32}\b
        matrix-token                 syt_[A-Za-z0-9]{1,80}_[A-Za-z]{20}_[A-Za-z0-9]{6}
        pubnub-key                   \b(?:pub|sub|sec)-c-[0-9A-Za-z]{8}-[0-9A-Za-z=-]{20,}
        canadian-notify-key          gcntfy-[\w-]{40,}
        gov-notify-key               \b(?:team|live|prod)[\w-]{0,20}(?:-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}){2}
        """,
    ),
    *literal(
        "secrets.monitoring",
        r"""
        sentry-user-token            sntryu_[0-9a-f]{60,}
        sentry-dsn                   https://[0-9a-f]{32}(?::[0-9a-f]{32})?@[\w.-]{3,60}/\d{1,10}
        grafana-service-token        glsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}
        grafana-cloud-token          glc_[A-Za-z0-9+/=]{32,}
        grafana-old-key              \beyJrIjoi[A-Za-z0-9+/=]{40,}
        newrelic-user-key            NRAK-[A-Z0-9]{24,}
        newrelic-insights-key        NR(?:II|IQ|RA)-[\w-]{20,}
        newrelic-browser-key         NRJS-[0-9a-f]{16,}
        newrelic-admin-key           NRAA-[0-9a-f]{20,}
        datadog-client-token         \bpub[0-9a-f]{32}\b
        dynatrace-token              \bdt0[a-zA-Z]\d{2}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{60,}
        posthog-key                  \bph[cxsrbe]_[\w-]{36,}
        honeycomb-key                \b(?:hcaik|hcbik|hcxik|hcamk|hcxmk)_[a-z0-9]{40,}
        logfire-token                pylf_v\d_[a-z]{2}_[A-Za-z0-9]{30,}
        axiom-token                  \bxa(?:at|pt|rt)-[0-9a-f]{8}-[0-9a-f-]{27}
        helicone-key                 \b(?:sk|pk)-helicone-[\w-]{20,}
        elastic-cloud-key            essu_[A-Za-z0-9+/=]{40,}
        segment-token                sgp_[A-Za-z0-9]{60,}
        checkly-key                  \bcu_[0-9a-f]{32}
        """,
    ),
    *keyed(
        "secrets.monitoring",
        """
        airbrake-key                 airbrake                  alnum:32
        amplitude-key                amplitude                 hex:32
        appoptics-token              appoptics                 word:64
        bugsnag-key                  bugsnag                   hex:32
        datadog-key                  datadog|dd_api|dd_app|dd_secret|dd_key  alnum:32
        elastic-key                  elastic|elasticsearch     base64:24
        honeybadger-key              honeybadger               alnum:20
        instana-key                  instana                   word:20
        loggly-token                 loggly                    uuid
        logzio-token                 logz                      alnum:32
        mixpanel-secret              mixpanel                  hex:32
        newrelic-key                 new-relic|newrelic|new_relic  dotted:20
        opsgenie-key                 opsgenie                  uuid
        papertrail-token             papertrail                alnum:20
        raygun-key                   raygun                    base64:22
        rollbar-token                rollbar                   hex:32
        segment-write-key            segment                   alnum:32
        sentry-key                   sentry                    hex:32
        signalfx-token               signalfx                  word:22
        splunk-token                 splunk                    uuid
        statuspage-key               statuspage                alnum:36
        sumologic-key                sumo                      alnum:14
        appdynamics-key              appdynamics               word:20
        pushbullet-token             pushbullet                dotted:34
        pushover-token               pushover                  lower:30
        mattermost-token             mattermost                lower:26
        rocketchat-token             rocket_?chat              word:43
        discord-secret               discord                   alnum:32
        messagebird-key              messagebird               alnum:25
        nexmo-secret                 nexmo|vonage              alnum:16
        plivo-id                     plivo_auth_id|plivo_id    upper:20
        plivo-token                  plivo                     word:32
        telnyx-key                   telnyx                    word:40
        twilio-token                 twilio                    hex:32
        intercom-key                 intercom                  base64:40
        drift-token                  drift                     alnum:32
        crisp-token                  crisp                     alnum:32
        gitter-token                 gitter                    lower:40
        webex-token                  webex                     word:60
        ably-key                     ably_                     any:30
        pusher-secret                pusher                    hex:20
        zulip-key                    zulip                     alnum:32
        """,
    ),
)
