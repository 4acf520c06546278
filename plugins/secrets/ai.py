"""Providers of models and of what surrounds them.

Follows the providers' public API references and key pages (OpenAI, Anthropic, Google, Mistral, Cohere, xAI,
Groq, Hugging Face, Replicate, Perplexity, Together, Cerebras, NVIDIA, Weights & Biases, LangSmith and others).
"""

from plugins.secrets.rule import keyed, literal

RULES = (
    *literal(
        "secrets.ai",
        r"""
        openai-project-key           \bsk-(?:proj|svcacct|admin|None|service)-[\w-]{20,}
        openai-api-key               \bsk-[A-Za-z0-9]{20,}
        openai-session-key           sess-[A-Za-z0-9]{40}
        anthropic-api-key            sk-ant-[a-z]{2,6}\d{2}-[\w-]{40,}
        anthropic-other-key          sk-ant-[\w-]{24,}
        openrouter-key               sk-or-(?:v1-)?[\w-]{30,}
        litellm-key                  sk-litellm-[\w-]{16,}
        langfuse-secret              sk-lf-[0-9a-f-]{32,}
        langsmith-key                lsv2_(?:pt|sk)_[0-9a-f_]{32,}
        langsmith-old-key            ls__[0-9a-f]{32}
        groq-key                     gsk_[A-Za-z0-9]{30,}
        xai-key                      xai-[\w-]{60,}
        perplexity-key               pplx-[A-Za-z0-9]{32,}
        huggingface-token            \b(?:hf|api_org)_[A-Za-z]{30,}
        huggingface-mixed-token      \b(?:hf|api_org)_[A-Za-z0-9]{32,}
        replicate-token              \br8_[\w-]{36,}
        cerebras-key                 csk-[a-z0-9]{40,}
        nvidia-key                   nvapi-[\w-]{40,}
        fireworks-key                \bfw_[A-Za-z0-9]{20,}
        together-key                 tgp_v1_[\w-]{40,}
        anyscale-key                 esecret_[a-z0-9]{24,}
        wandb-key                    wandb_v1_[\w-]{40,}
        llamacloud-key               llx-[\w-]{40,}
        voyage-key                   \b(?:pa|al)-[A-Za-z0-9_-]{40,}
        jina-key                     jina_[A-Za-z0-9_-]{40,}
        tavily-key                   tvly-(?:dev-|prod-)?[\w-]{20,}
        firecrawl-key                \bfc-[0-9a-f]{32}\b
        elevenlabs-key               \bsk_[0-9a-f]{48}\b
        pinecone-key                 pcsk_[\w]{40,}
        runpod-key                   rpa_[A-Za-z0-9]{36,}
        runway-key                   key_[0-9a-f]{64,128}\b
        cursor-key                   crsr_[0-9a-f]{40,}
        devin-key                    apk_(?:user_)?[A-Za-z0-9+/=_-]{40,}
        devin-service-key            cog_[a-z0-9]{40,}
        coze-token                   pat_[A-Za-z0-9]{60,}
        coderabbit-key               \bcr-[0-9a-f]{50,}
        modal-token                  \b(?:ak|as)-[A-Za-z0-9]{22}\b
        e2b-key                      e2b_[0-9a-f]{40}
        voiceflow-key                VF\.(?:DM|WS)\.[0-9a-f]{24}\.[A-Za-z0-9]{12,}
        scale-key                    \b(?:live|test)_auth_[0-9a-f]{32}
        """,
    ),
    *keyed(
        "secrets.ai",
        """
        ai21-key                     ai21                      word:30
        aleph-alpha-key              aleph                     word:30
        assemblyai-key               assemblyai|assembly_ai    hex:32
        baseten-key                  baseten                   dotted:40
        clarifai-key                 clarifai                  alnum:32
        cohere-key                   cohere|co_api             alnum:40
        fal-key                      fal_key|fal_ai            any:60
        deepgram-key                 deepgram                  hex:40
        deepl-key                    deepl                     word:36
        elevenlabs-old-key           elevenlabs|xi-api-key     hex:32
        monkeylearn-key              monkeylearn               hex:40
        mistral-key                  mistral                   alnum:32
        novita-key                   novita                    word:36
        pinecone-old-key             pinecone                  uuid
        sigopt-token                 sigopt                    upper:48
        speechmatics-key             speechmatics|speechtext   alnum:32
        stability-old-key            stability                 word:48
        together-old-key             together                  hex:64
        unstructured-key             unstructured              alnum:30
        upstage-key                  upstage                   word:32
        vastai-key                   vast                      hex:64
        wandb-old-key                wandb|weightsandbiases|weights_and_biases  hex:40
        watsonx-key                  watson                    word:44
        weaviate-key                 weaviate                  word:36
        cursor-old-key               cursor                    word:60
        klingai-key                  kling                     word:32
        looker-key                   looker                    alnum:20
        scale-old-key                scale_api                 word:32
        """,
    ),
)
