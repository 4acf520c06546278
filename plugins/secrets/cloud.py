"""Clouds, hosting and infrastructure.

Follows the public references: AWS IAM "Unique identifiers" and the STS, Bedrock, AppSync and MWS guides,
Google Cloud "API keys", "OAuth client secrets" and "HMAC keys", Microsoft Learn on storage, service bus and
Entra ID credentials, and the API pages of DigitalOcean, Hetzner, Scaleway, Fly.io, Vercel, Netlify, Heroku,
Cloudflare, HashiCorp, Doppler, Pulumi, Alibaba, Tencent and Yandex Cloud, 1Password, Tailscale and others.
"""

from plugins.secrets.checks import is_random, not_placeholder
from plugins.secrets.rule import Rule, keyed, literal, long, named

_AWS = r"(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])"

RULES = (
    *long(
        "secrets.cloud",
        r"""
        aws-session-token            \b(?:IQoJb3JpZ2lu|FwoGZXIvYXdz|FQoGZXIvYXdz)[\w/+=%]{40}  \w/+=%
        aws-bedrock-api-key          \bABSK[A-Za-z0-9+/]{60}  A-Za-z0-9+/=
        aws-bedrock-short-key        bedrock-api-key-[A-Za-z0-9+/=]{20}  A-Za-z0-9+/=
        google-oauth-access-token    \bya29\.[\w-]{20}  \w.-
        fly-io-token                 \bfm[12][ar]?_[A-Za-z0-9+/=_,-]{40}  \w+/=,-
        onepassword-service-account  ops_eyJ[A-Za-z0-9+/_-]{60}  \w+/=-
        """,
    ),
    *literal(
        "secrets.cloud",
        rf"""
        aws-access-key-id            \b{_AWS}[A-Z0-9]{{16}}\b
        aws-appsync-key              da2-[a-z0-9]{{26}}
        aws-mws-token                amzn\.mws\.[0-9a-f]{{8}}-[0-9a-f-]{{27}}
        aws-oauth-client-secret      amzn1\.oa2-cs\.v1\.[0-9a-f]{{64}}
        aws-oauth-refresh-token      \bAtz[ar]\|[A-Za-z0-9_-]{{60,}}
        aws-presigned-signature      X-Amz-Signature= ~ [0-9a-f]{{64}}
        google-api-key               \bAIza[\w-]{{33,}}
        google-oauth-client-secret   GOCSPX-[\w-]{{24,}}
        google-oauth-refresh-token   \b1//0[\w-]{{35,}}
        google-oauth-code            \b4/0A[\w-]{{40,}}
        google-hmac-key              \bGOOG(?:1E)?[A-Z0-9]{{20,60}}
        google-gemini-auth-key       AQ\.Ab8RN6[\w-]{{30,}}
        firebase-server-key          \bAAAA[\w-]{{7}}:APA91b[\w-]{{100,}}
        firebase-device-token        APA91b[\w-]{{100,}}
        azure-storage-key            \b(?:AccountKey|SharedAccessKey|accesskey)= ~ [A-Za-z0-9+/]{{40,}}={{0,2}}
        azure-shared-access-signature SharedAccessSignature[= ] ~ [^\s"'<>]{{30,}}
        azure-blob-signature         [?&;]sig= ~ [A-Za-z0-9%+/]{{40,}}={{0,2}}
        azure-function-key           [?&]code= ~ [\w%/+-]{{40,}}={{0,2}}
        azure-instrumentation-key    InstrumentationKey= ~ [0-9a-f]{{8}}-[0-9a-f-]{{27}}
        digitalocean-token           \bdo[opr]_v1_[a-f0-9]{{60,64}}
        fly-io-access-token          fo1_[\w-]{{40,}}
        vercel-token                 \bvc[acikprt]_[\w-]{{24,}}
        vercel-blob-token            vercel_blob_rw_[\w-]{{20,}}
        netlify-token                \bnf[pcou]_[A-Za-z0-9]{{36,}}
        heroku-token                 HRKU-[\w-]{{36,}}
        cloudflare-origin-ca-key     v1\.0-[0-9a-f]{{20,}}-[0-9a-f]{{100,}}
        cloudflare-api-token         \bcf(?:at|ut|k)_[A-Za-z0-9_-]{{40,}}
        hashicorp-terraform-token    atlasv1\.[\w=-]{{60,}}
        hashicorp-vault-token        \bhv[sbr]\.[\w-]{{24,}}
        doppler-token                dp\.(?:ct|pt|st|sa|scim|audit|said)\.[\w.-]{{36,}}
        pulumi-token                 pul-[a-f0-9]{{40}}
        alibaba-access-key-id        \bLTAI[A-Za-z0-9]{{12,26}}
        tencent-secret-id            \bAKID[A-Za-z0-9]{{13,44}}
        yandex-api-key               \bAQVN[\w-]{{35,}}
        yandex-iam-token             t1\.[A-Z0-9a-z_-]{{2,}}[=]{{0,2}}\.[A-Z0-9a-z_-]{{60,}}={{0,2}}
        linode-token                 lin_[A-Za-z0-9]{{40,}}
        exoscale-key                 \bEXO[a-f0-9]{{24,}}
        scaleway-access-key          \bSCW[A-Z0-9]{{17}}\b
        scalingo-token               tk-us-[\w-]{{40,}}
        render-token                 rnd_[A-Za-z0-9]{{24,}}
        railway-token                \brw_[A-Za-z0-9-]{{30,}}
        upcloud-token                ucat_[A-Za-z0-9]{{20,}}
        onepassword-secret-key       \bA3-[A-Z0-9]{{6}}-[A-Z0-9]{{6}}-?[A-Z0-9]{{5}}(?:-[A-Z0-9]{{5}}){{3}}
        tailscale-key                tskey-(?:[a-z]{{3,12}}-)?[A-Za-z0-9]{{6,}}(?:-[A-Za-z0-9_]{{16,}})?
        teleport-token               teleport_[a-z]{{2,12}}_[\w-]{{30,}}
        infisical-token              st\.[0-9a-f-]{{36}}\.[0-9a-f]{{32,}}\.[0-9a-f]{{32,}}
        infracost-key                ico-[A-Za-z0-9]{{28,}}
        ubidots-token                BBFF-[A-Za-z0-9]{{24,}}
        authress-key                 \b(?:sc|ext|scauth|authress)_\w{{5,40}}\.\w{{4,6}}\.acc[_-][\w.+/=-]{{30,}}
        defined-networking-key       (?i:dnkey-[a-z0-9=_-]{{20,}}-[a-z0-9=_-]{{40,}})
        openshift-token              sha256~[\w-]{{43}}
        rancher-token                token-[a-z0-9]{{5}}:[a-z0-9]{{54}}
        docker-swarm-key             SWMKEY-1-[A-Za-z0-9+/]{{30,}}
        docker-swarm-join-token      SWMTKN-1-[a-z0-9-]{{50,}}
        ory-token                    ory_(?:at|rt|ac|pat|wak|st)_[\w.-]{{30,}}
        stytch-secret                secret-(?:live|test)-[\w=-]{{30,}}
        prefect-key                  \bpn[ub]_[a-zA-Z0-9]{{34,}}
        cockroach-cloud-key          CCDB1_[\w-]{{20,}}
        aiven-token                  aivenv1[A-Za-z0-9+/=]{{60,}}
        harness-token                \b[ps]at\.[\w-]{{20,24}}\.[A-Za-z0-9]{{24}}\.[A-Za-z0-9]{{20}}
        """,
    ),
    Rule(
        "aws-secret-access-key",
        r"[A-Za-z0-9/+]{40}",
        named(r"aws_?secret|secret_?access_?key|aws_?key|secretkey"),
        check=is_random,
        group="secrets.cloud",
    ),
    Rule(
        "azure-entra-client-secret",
        r"[78]Q~[\w~.-]{31,34}",
        check=not_placeholder,
        group="secrets.cloud",
    ),
    Rule(
        "azure-connection-secret",
        r"[A-Za-z0-9+/]{28,200}={0,2}",
        r"(?i:;Secret=|;Key=|SharedSecretValue=|;Password=)",
        check=is_random,
        group="secrets.cloud",
    ),
    *keyed(
        "secrets.cloud",
        """
        alibaba-access-key-secret    alibaba|aliyun            alnum:30
        azure-devops-token           azure|ado_pat|adopat|vsts lower:52
        azure-subscription-key       subscription-key          hex:32
        azure-openai-key             azure_openai|azureopenai  alnum:32
        cloudflare-global-key        cloudflare                hex:37
        cloudflare-token             cloudflare                word:40
        digitalocean-spaces-key      spaces                    alnum:43
        exoscale-secret              exoscale                  word:40
        heroku-api-key               heroku                    uuid
        hetzner-token                hetzner|hcloud            alnum:64
        ibm-cloud-api-key            ibm|bluemix               word:44
        ibm-softlayer-key            softlayer                 lower:64
        linode-api-token             linode                    hex:64
        netlify-api-token            netlify                   word:43
        ovh-key                      ovh                       word:16
        oracle-cloud-token           oci_                      any:20
        rackspace-key                rackspace                 hex:32
        scaleway-secret-key          scaleway|scw_             uuid
        scalingo-key                 scalingo                  word:40
        tencent-secret-key           tencent|qcloud            alnum:32
        tencent-secret-id-bare       tencent                   alnum:36
        upcloud-key                  upcloud                   word:20
        vercel-api-token             vercel                    alnum:24
        vultr-key                    vultr                     alnum:36
        huawei-cloud-key             huawei|hwcloud            alnum:40
        civo-key                     civo                      alnum:50
        dnsimple-token               dnsimple                  word:32
        godaddy-key                  godaddy                   word:20
        namecheap-key                namecheap                 hex:32
        fastly-token                 fastly                    word:32
        akamai-client-token          akamai|edgegrid           any:30
        bunny-cdn-key                bunny                     hex:32
        keycdn-key                   keycdn                    word:24
        buddyns-key                  buddyns                   lower:32
        okta-api-token               okta                      dotted:40
        kubernetes-bootstrap-token   bootstrap_token|kubeadm   dotted:23
        vault-old-token              vault_token               dotted:26
        auth0-client-secret          auth0                     word:32
        onelogin-secret              onelogin                  alnum:40
        jumpcloud-key                jumpcloud                 hex:40
        duo-secret-key               duo_                      alnum:40
        wpengine-key                 wpengine|wpe_             word:20
        runscope-token               runscope                  alnum:32
        uptimerobot-key              uptimerobot               word:30
        ngrok-token                  ngrok                     word:40
        spacelift-key                spacelift                 any:60
        yandex-access-key            yandex|yc_                word:40
        particle-token               particle                  hex:40
        blynk-token                  blynk                     word:32
        ubidots-key                  ubidots                   word:30
        vmware-token                 vmware|vcenter|vra_       word:24
        truenas-key                  truenas|freenas|tn_api    word:20
        aws-cognito-secret           cognito                   lower:48
        """,
    ),
)
