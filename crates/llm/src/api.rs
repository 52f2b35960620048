//! Which API a request speaks, told by its path.

/// An API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI chat completions.
    OpenAiChat,
    /// OpenAI responses.
    OpenAiResponses,
    /// OpenAI completions.
    OpenAiCompletions,
    /// OpenAI embeddings.
    OpenAiEmbeddings,
    /// OpenAI models.
    OpenAiModels,
    /// Anthropic messages.
    AnthropicMessages,
    /// Anything else.
    Other,
}

impl Api {
    /// By the path; what stands before `/chat/completions` and the like does not matter, as gateways put much there.
    pub fn of(path: &str) -> Api {
        let path = path.trim_end_matches('/');
        let ends = |end: &str| path.ends_with(end);
        match () {
            () if ends("/chat/completions") => Api::OpenAiChat,
            () if ends("/responses") => Api::OpenAiResponses,
            () if ends("/completions") => Api::OpenAiCompletions,
            () if ends("/embeddings") => Api::OpenAiEmbeddings,
            () if ends("/models") || path.contains("/v1/models/") => Api::OpenAiModels,
            () if ends("/messages") => Api::AnthropicMessages,
            () => Api::Other,
        }
    }

    /// Whether errors and rate limits have Anthropic's shape; OpenAI's is the usual one.
    pub fn is_anthropic(self) -> bool {
        self == Api::AnthropicMessages
    }
}

#[cfg(test)]
mod tests {
    use super::Api;

    #[test]
    fn paths_tell_the_api() {
        for (path, api) in [
            ("/v1/chat/completions", Api::OpenAiChat),
            ("/openai/deployments/x/chat/completions", Api::OpenAiChat),
            ("/v1/completions", Api::OpenAiCompletions),
            ("/v1/responses/", Api::OpenAiResponses),
            ("/v1/models/gpt", Api::OpenAiModels),
            ("/v1/messages", Api::AnthropicMessages),
            ("/v1/messages/batches", Api::Other),
            ("/", Api::Other),
        ] {
            assert_eq!(Api::of(path), api, "{path}");
        }
    }
}
