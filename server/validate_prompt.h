// The prompt of a request as tokens, and where its context ends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lukv/v1/inference.pb.h"
#include "server/checker.h"
#include "server/validate.h"

namespace lukv {

struct PromptTokens {
  std::vector<TokenId> tokens;  // Context, then question. Empty if something is wrong with it, which is then reported.
  int32_t context = 0;          // Tokens of the context; 0: all of it is the question.
};

// `stored`: as for ValidateGenerate.
PromptTokens ValidatePrompt(const v1::GenerateRequest& request, const RequestLimits& limits,
                            const StoredContext* stored, Checker& checker);

// A context that comes by itself; empty if something is wrong with it.
std::vector<TokenId> ValidateContext(const v1::CreateContextRequest& request, const RequestLimits& limits,
                                     Checker& checker);

std::vector<TokenId> EncodeText(const std::string& field, const std::string& text, bool parse_special, bool add_bos,
                                const RequestLimits& limits, Checker& checker);

struct ConversationTokens {
  std::vector<TokenId> tokens;
  int32_t before_last_turn = 0;  // Tokens before the last message's turn begins.
};
ConversationTokens EncodeConversation(const v1::Conversation& conversation, const RequestLimits& limits,
                                      Checker& checker);

}  // namespace lukv
