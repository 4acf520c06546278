"""Forges, build services, package registries and developers' tools.

Follows GitHub's, GitLab's and Bitbucket's token references, the npm, PyPI, RubyGems, crates.io, NuGet, Docker
and JFrog manuals, and those of the build and quality services.
"""

from plugins.secrets.checks import checksummed
from plugins.secrets.rule import keyed, literal, long

RULES = (
    *long(
        "secrets.vcs",
        r"""
        atlassian-token              ATATT3[A-Za-z0-9_=+/.-]{40}  \w=+/.-
        atlassian-admin-token        \bATS[A-Z]T[A-Za-z0-9_=+/.-]{60}  \w=+/.-
        bitbucket-access-token       ATCTT3[A-Za-z0-9_=.+/-]{40}  \w=+/.-
        pypi-token                   pypi-AgE[IN][\w-]{40}  \w-
        """,
    ),
    *literal(
        "secrets.vcs",
        r"""
        github-token                 gh[pousr]_[A-Za-z0-9]{36,}
        npm-token                    npm_[A-Za-z0-9]{36,}
        """,
        check=checksummed,
    ),
    *literal(
        "secrets.vcs",
        r"""
        github-fine-grained-token    github_pat_[A-Za-z0-9]{20,}_?[A-Za-z0-9]{0,100}
        gitlab-token                 gl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|soat|ffct|wt)-[\w.-]{20,}
        gitlab-runner-token          GR1348941[\w-]{20,}
        gitlab-session               _gitlab_session= ~ [0-9a-z]{32}
        bitbucket-app-password       \bATBB[A-Za-z0-9_=.-]{24,}
        bitbucket-server-token       BBDC-[A-Za-z0-9+/@_-]{40,}
        sourcegraph-token            sgp_(?:[0-9a-f]{16}_|local_)?[0-9a-f]{40}
        sourcegraph-other-token      \bsg[dw]_[A-Za-z0-9_]{40,}
        gitea-token                  gta_[0-9a-f]{40}
        """,
    ),
    *literal(
        "secrets.registry",
        r"""
        rubygems-key                 rubygems_[0-9a-f]{48}
        crates-io-token              \bcio[A-Za-z0-9]{32}\b
        nuget-key                    \boy2[a-z0-9]{43}\b
        docker-hub-token             dckr_(?:pat|oat)_[\w-]{24,}
        docker-auth                  "auth":\s{0,4}" ~ [A-Za-z0-9+/]{12,}={0,2}
        artifactory-key              \bAKC[a-zA-Z0-9]{60,}
        artifactory-reference-token  \bcmVmdGtuO[A-Za-z0-9]{50,}
        clojars-token                CLOJARS_[0-9a-z]{50,}
        hex-pm-key                   hexpm_[0-9a-f]{32,}
        thunderstore-token           tss_[A-Za-z0-9]{30,}
        stackhawk-key                hawk\.[\w-]{20}\.[\w-]{20}
        """,
    ),
    *literal(
        "secrets.ci",
        r"""
        circleci-token               CCI(?:PAT|PRJ)_[A-Za-z0-9]{20,}_[0-9a-f]{40}
        circleci-long-token          CCI(?:PAT|PRJ)_[A-Za-z0-9_]{40,}
        buildkite-token              bkua_[0-9a-f]{40}
        buildkite-agent-token        bkagent_[\w-]{30,}
        sonar-token                  \bsq[pua]_[0-9a-f]{40}
        snyk-token                   snyk_(?:uat|sat)\.[\w.-]{30,}
        mergify-key                  mka_[\w-]{30,}
        octopus-key                  API-[A-Z0-9]{26,32}\b
        dependency-track-key         odt_[A-Za-z0-9]{32,}
        postman-key                  PMAK-[0-9a-f]{24}-[0-9a-f]{34}
        postman-collection-key       PMAT-[0-9A-Z]{24,}
        wakatime-key                 waka_[0-9a-f-]{36,}
        figma-token                  \bfig[dorp]h?_[\w-]{30,}
        scalr-token                  scalr_[\w.-]{40,}
        ionic-token                  ion_[A-Za-z0-9]{40,}
        chromatic-token              chpt_[0-9a-f]{12,}
        zuplo-key                    zpka_[0-9a-z_]{20,}
        depot-token                  depot_(?:org|project|user)_[0-9a-f]{40,}
        launchdarkly-key             \b(?:sdk|api|mob)-[0-9a-f]{8}-[0-9a-f-]{27}\b
        statsig-key                  \b(?:secret|console|client)-[A-Za-z0-9]{40,}
        configcat-key                configcat-(?:sdk|proxy)-\d/[\w-]{20,}/[\w-]{20,}
        growthbook-key               \b(?:sdk|secret_user|secret_admin)-?_?[A-Za-z0-9]{16,}
        """,
    ),
    *keyed(
        "secrets.ci",
        """
        artifactory-old-key          artifactory|jfrog|xray|bintray  alnum:64
        bitbucket-client-secret      bitbucket                 word:32
        bitbucket-client-id          bitbucket                 alnum:20
        bitrise-token                bitrise                   word:40
        buildkite-old-token          buildkite                 hex:40
        circleci-old-token           circleci|circle_ci        hex:40
        codacy-token                 codacy                    hex:32
        codeclimate-key              codeclimate|cc_test_reporter  hex:40
        codemagic-token              codemagic                 word:32
        coveralls-token              coveralls                 alnum:32
        crowdin-token                crowdin                   alnum:32
        drone-token                  drone                     alnum:32
        jenkins-token                jenkins                   hex:32
        jira-token                   jira|atlassian|confluence alnum:20
        launchdarkly-old-key         launchdarkly              word:36
        npm-old-token                npmrc|_authtoken|npmjs    uuid
        phrase-lokalise-token        lokalise|phraseapp        hex:40
        sauce-access-key             sauce                     uuid
        bitbar-key                   bitbar                    alnum:32
        sonar-old-token              sonar                     hex:40
        snyk-old-token               snyk                      uuid
        teamcity-token               teamcity                  dotted:40
        travis-token                 travis                    alnum:20
        wakatime-old-key             wakatime|waka_time        uuid
        gitalk-secret                gitalk                    hex:40
        sourcegraph-old-token        sourcegraph               hex:40
        rapidapi-key                 rapidapi|x-rapidapi       word:40
        figma-header-token           figma                     word:36
        configcat-old-key            configcat                 base64:43
        codecov-upload-token         codecov                   uuid
        sidekiq-enterprise-key       bundle_enterprise__|bundle_gems__contribsys  word:8
        infura-key                   infura                    hex:32
        alchemy-key                  alchemy                   word:32
        etherscan-key                etherscan|bscscan|polygonscan  upper:30
        """,
    ),
)
