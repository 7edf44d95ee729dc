/*
 * Inside a tokenizer: reading the parts of a tokenizer.json. Each function takes
 * a component's JSON, which may be absent or null, and the file's name for
 * messages; -EINVAL, logged, names what is wrong or not supported.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_LOAD_H
#define STAGECOACH_DATA_TOKENIZER_LOAD_H

#include "base/json.h"
#include "data/tokenizer/tokenizer_impl.h"

/* Components may hold components this deep. */
#define LOAD_DEPTH_MAX 4

static inline bool load_is_absent(const json_t *value)
{
	return !value || json_is_null(value);
}

/* "FILE: WHERE WHAT is not supported"; returns -EINVAL. */
int load_refuse(const char *path, const char *where, const char *what);

/* The "type" of a component; NULL (logged) when it has none. */
const char *load_type(const char *path, const json_t *component,
		      const char *where);

/* A component's list of components, of at most LOAD_DEPTH_MAX in each other. */
int load_list(const json_t *component, const char *key, unsigned depth,
	      const char *path, json_t **list) MUST_CHECK;

/* {"String": ...} or {"Regex": ...} */
int load_pattern(const json_t *component, const char *where, const char *path,
		 struct pattern *out) MUST_CHECK;

/* The id of a text in model.vocab. */
int load_token_id(const json_t *model, const char *text, const char *where,
		  const char *path, int32_t *id) MUST_CHECK;

/*
 * A string of one character, which is copied to out; NULL as fallback: it must
 * be there.
 */
int load_character(const json_t *component, const char *key,
		   const char *fallback, const char *path, char out[5],
		   size_t *bytes) MUST_CHECK;

int load_normalizer(struct tokenizer *tokenizer, const json_t *component,
		    const char *path) MUST_CHECK;
/* *byte_level: pieces are bytes. */
int load_pre_tokenizer(struct tokenizer *tokenizer, const json_t *component,
		       const char *path, bool *byte_level) MUST_CHECK;
int load_added_tokens(struct tokenizer *tokenizer, const json_t *root,
		      const char *path) MUST_CHECK;
int load_post_processor(struct tokenizer *tokenizer, const json_t *component,
			const char *path) MUST_CHECK;
int load_decoder(struct tokenizer *tokenizer, const json_t *component,
		 bool byte_level, const char *path) MUST_CHECK;

#endif
