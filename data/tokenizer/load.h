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

/*
 * A long array of the model ("merges", or Unigram's "vocab"), one item after the
 * other: as JSON all of it would take twenty times its text.
 */
struct load_array {
	const char *key;
	const char *path;
	const json_t *list; /* where it is part of the model's JSON after all */
	struct load_span left; /* else what is not read yet */
	size_t index;          /* items so far */
};

/*
 * Parses the file but for those arrays, in whose places there are empty ones. The
 * spans of them are the tokenizer's.
 */
int load_parse(struct tokenizer *tokenizer, const char *path,
	       json_t **root) MUST_CHECK;
int load_array_begin(const struct tokenizer *tokenizer, const json_t *model,
		     const char *key, const char *path,
		     struct load_array *out) MUST_CHECK;
/* 1: an item, which the caller decrefs; 0: there are no more; or an error. */
int load_array_next(struct load_array *array, json_t **item) MUST_CHECK;

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
