/*
 * How one family spells its configuration in config.json: a table, which
 * reading and writing both follow, and functions for what no table says. A new
 * family is one file with one such table, entered in hf_config.c. Internal to model/io.
 */
#ifndef STAGECOACH_MODEL_IO_HF_CONFIG_FAMILY_H
#define STAGECOACH_MODEL_IO_HF_CONFIG_FAMILY_H

#include "base/json.h"
#include "model/model.h"

/* What stands in struct model_config at `offset`. */
enum hf_key_kind {
	HF_SIZE,     /* unsigned; JSON null or absent: `fallback` if optional */
	HF_REAL,     /* double */
	HF_BOOLEAN,  /* bool */
	HF_TOKEN_ID, /* int; null: -1; of a list the first counts */
};

struct hf_key {
	const char *name;
	enum hf_key_kind kind;
	size_t offset;
	bool required;
	double fallback; /* of an optional key that is absent */
	double minimum;
	double maximum;
	bool null_when_zero; /* written as null rather than 0 */
};

/*
 * A key this program honours for some values only. Values are JSON text; the
 * first is what is written, and what an absent or null key is taken as.
 */
struct hf_fixed {
	const char *name;
	const char *accepted[4];
	bool write;
};

struct hf_family {
	const char *family;           /* of struct model_config */
	const char *model_type;       /* in config.json */
	const char *architectures[4]; /* first: written */
	bool transposes;              /* matrices are [in, out] */
	const struct hf_key *keys;    /* ends with a NULL name */
	const struct hf_fixed *fixed; /* ends with a NULL name */

	/* What no table says, after the keys. NULL: nothing. */
	int (*read)(const json_t *root, const char *path,
		    struct model_config *config);
	bool (*write)(json_t *root, const struct model_config *config);

	/*
	 * After reading and before writing: -EINVAL, logged with `path`, when
	 * the family's config.json cannot express this. May be NULL.
	 */
	int (*check)(const struct model_config *config, const char *path);
};

extern const struct hf_family hf_config_gpt2;
extern const struct hf_family hf_config_llama;
extern const struct hf_family hf_config_mistral;
extern const struct hf_family hf_config_qwen2;
extern const struct hf_family hf_config_qwen3;

#endif
