#include "model/io/hf_config_rope.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define THETA_FALLBACK 10000.0 /* of every class */
/* Of the YaRN paper, where a file has none. */
#define BETA_FAST     32.0
#define BETA_SLOW     1.0
#define REAL_MAXIMUM  1e12
#define POSITIONS_MAX 1e9

/* ---- reading ---- */

/* The last tells nothing that is computed with. */
static const char *const known_keys[] = {
	"rope_type",
	"type",
	"rope_theta",
	"factor",
	"low_freq_factor",
	"high_freq_factor",
	"beta_fast",
	"beta_slow",
	"attention_factor",
	"mscale",
	"mscale_all_dim",
	"truncate",
	"partial_rotary_factor",
	"original_max_position_embeddings",
	"finetuned",
};

static int check_keys(const json_t *given, const char *path)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)given, key, value)
	{
		bool known = json_is_null(value);

		for (size_t i = 0; i < ARRAY_SIZE(known_keys); i++)
			known |= strcmp(key, known_keys[i]) == 0;
		if (!known)
			return fail(-EINVAL,
				    "%s: rotary positions with '%.60s' are "
				    "not supported",
				    path, key);
	}
	return 0;
}

/* Pairs that are left as they are would need another kernel. */
static int check_whole(const json_t *object, const char *path)
{
	double part = 1.0;
	int code = json_get_real_or(object, "partial_rotary_factor", 0, 1, 1,
				    path, &part);

	if (code != 0 || part == 1.0)
		return code;
	return fail(-EINVAL,
		    "%s: partial_rotary_factor = %g changes what the model "
		    "computes and is not supported (1 is)",
		    path, part);
}

static int read_kind(const json_t *given, const char *path, enum rope_kind *out)
{
	const char *name = NULL;
	int code = json_get_string_or(given, "type", "default", path, &name);

	if (code == 0)
		code = json_get_string_or(given, "rope_type", name, path,
					  &name);
	if (code != 0)
		return code;
	for (int kind = ROPE_DEFAULT; kind < ROPE_KINDS; kind++) {
		if (strcmp(name, rope_kind_name(kind)) != 0)
			continue;
		*out = kind;
		return 0;
	}
	return fail(-EINVAL,
		    "%s: rotary positions of type '%.60s' are not supported "
		    "(default, linear, dynamic, llama3 and yarn are)",
		    path, name);
}

static int read_original(const json_t *root, const json_t *given,
			 const char *path, struct rope_config *rope)
{
	static const char key[] = "original_max_position_embeddings";
	int64_t positions = 0;
	int code = json_get_integer_or(given, key, 1, (int64_t)POSITIONS_MAX,
				       rope->positions, path, &positions);

	/* One outside counts for more. */
	if (code == 0)
		code = json_get_integer_or(root, key, 1, (int64_t)POSITIONS_MAX,
					   positions, path, &positions);
	if (code == 0)
		rope->original_positions = (unsigned)positions;
	return code;
}

static int read_llama3(const json_t *given, const char *path,
		       struct rope_config *rope)
{
	int code = json_get_real(given, "low_freq_factor", 0, REAL_MAXIMUM,
				 path, &rope->low_frequency_factor);

	return code ? code
		    : json_get_real(given, "high_freq_factor", 0, REAL_MAXIMUM,
				    path, &rope->high_frequency_factor);
}

static int read_yarn(const json_t *given, const char *path,
		     struct rope_config *rope)
{
	const struct {
		const char *key;
		double fallback, *to;
	} reals[] = {
		{"beta_fast", BETA_FAST, &rope->beta_fast},
		{"beta_slow", BETA_SLOW, &rope->beta_slow},
		{"attention_factor", 0, &rope->attention_factor},
		{"mscale", 0, &rope->mscale},
		{"mscale_all_dim", 0, &rope->mscale_all},
	};
	bool truncated = true;
	int code =
		json_get_boolean_or(given, "truncate", true, path, &truncated);

	rope->untruncated = !truncated;
	for (size_t i = 0; code == 0 && i < ARRAY_SIZE(reals); i++)
		code = json_get_real_or(given, reals[i].key, 0, REAL_MAXIMUM,
					reals[i].fallback, path, reals[i].to);
	return code;
}

/* The numbers of a kind that scales. */
static int read_scaling(const json_t *root, const json_t *given,
			const char *path, struct rope_config *rope)
{
	const json_t *factor = json_object_get(given, "factor");
	int code = 0;

	if (rope->kind == ROPE_LLAMA3 || rope->kind == ROPE_YARN)
		code = read_original(root, given, path, rope);
	if (code != 0)
		return code;
	if (rope->kind == ROPE_YARN && (!factor || json_is_null(factor)))
		rope->factor = (double)rope->positions /
			       (double)rope->original_positions;
	else
		code = json_get_real(given, "factor", 1e-6, REAL_MAXIMUM, path,
				     &rope->factor);
	if (code == 0 && rope->kind == ROPE_LLAMA3)
		code = read_llama3(given, path, rope);
	if (code == 0 && rope->kind == ROPE_YARN)
		code = read_yarn(given, path, rope);
	return code;
}

/* One for each type of layer: they must be the same. */
static int unnest(const json_t *given, const char *path, const json_t **out)
{
	static const char *const types[] = {"full_attention",
					    "sliding_attention"};
	const json_t *found = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		const json_t *one = json_object_get(given, types[i]);

		if (!json_is_object(one))
			continue;
		if (found && !json_equal(found, one))
			return fail(-EINVAL,
				    "%s: rope_parameters that differ between "
				    "layers are not supported",
				    path);
		found = one;
	}
	*out = found ? found : given;
	return 0;
}

/* The object that says it, or NULL for none. */
static int find_given(const json_t *root, const char *path, const json_t **out)
{
	const json_t *given = json_object_get(root, "rope_parameters");

	if (!json_is_object(given) || json_object_size(given) == 0)
		given = json_object_get(root, "rope_scaling");
	*out = NULL;
	if (given == NULL || json_is_null(given))
		return 0;
	if (!json_is_object(given))
		return fail(-EINVAL, "%s: rope_scaling is not an object", path);
	return unnest(given, path, out);
}

static int read_given(const json_t *root, const json_t *given, const char *path,
		      struct rope_config *rope)
{
	int code = check_keys(given, path);

	if (code == 0)
		code = check_whole(given, path);
	if (code == 0)
		code = json_get_real_or(given, "rope_theta", 1e-6, REAL_MAXIMUM,
					rope->theta, path, &rope->theta);
	if (code == 0)
		code = read_kind(given, path, &rope->kind);
	if (code == 0 && rope->kind != ROPE_DEFAULT)
		code = read_scaling(root, given, path, rope);
	return code;
}

int hf_config_rope_read(const json_t *root, const char *path,
			struct model_config *config)
{
	struct rope_config *rope = &config->rope;
	const json_t *given = NULL;
	int code = json_get_real_or(root, "rope_theta", 1e-6, REAL_MAXIMUM,
				    THETA_FALLBACK, path, &rope->theta);

	rope->kind = ROPE_DEFAULT;
	config->context = rope->positions;
	if (code == 0)
		code = check_whole(root, path);
	if (code == 0)
		code = find_given(root, path, &given);
	if (code == 0 && given)
		code = read_given(root, given, path, rope);
	if (code != 0)
		return code;
	/* That kind is for sequences beyond the positions. */
	if (rope->kind == ROPE_DYNAMIC)
		config->context = (unsigned)MIN((double)rope->positions *
							MAX(rope->factor, 1.0),
						POSITIONS_MAX);
	return 0;
}

/* ---- writing ---- */

static bool set_real(json_t *object, const char *key, double value)
{
	return json_object_set_new(object, key, json_real(value)) == 0;
}

static bool fill_llama3(json_t *scaling, const struct rope_config *rope)
{
	return set_real(scaling, "low_freq_factor",
			rope->low_frequency_factor) &&
	       set_real(scaling, "high_freq_factor",
			rope->high_frequency_factor);
}

static bool fill_yarn(json_t *scaling, const struct rope_config *rope)
{
	bool good = true;

	if (rope->beta_fast != BETA_FAST)
		good &= set_real(scaling, "beta_fast", rope->beta_fast);
	if (rope->beta_slow != BETA_SLOW)
		good &= set_real(scaling, "beta_slow", rope->beta_slow);
	if (rope->attention_factor > 0)
		good &= set_real(scaling, "attention_factor",
				 rope->attention_factor);
	if (rope->mscale != 0)
		good &= set_real(scaling, "mscale", rope->mscale);
	if (rope->mscale_all != 0)
		good &= set_real(scaling, "mscale_all_dim", rope->mscale_all);
	if (rope->untruncated)
		good &= json_object_set_new(scaling, "truncate",
					    json_false()) == 0;
	return good;
}

/* Both names of the kind: old versions know the second. */
static json_t *scaling_of(const struct rope_config *rope)
{
	const char *kind = rope_kind_name(rope->kind);
	json_t *scaling;
	bool good;

	if (rope->kind == ROPE_DEFAULT)
		return json_null();
	scaling = json_pack("{s:s, s:s, s:f}", "rope_type", kind, "type", kind,
			    "factor", rope->factor);
	good = scaling != NULL;
	if (rope->kind == ROPE_LLAMA3 || rope->kind == ROPE_YARN)
		good = good &&
		       json_object_set_new(
			       scaling, "original_max_position_embeddings",
			       json_integer(rope->original_positions)) == 0;
	if (rope->kind == ROPE_LLAMA3)
		good = good && fill_llama3(scaling, rope);
	if (rope->kind == ROPE_YARN)
		good = good && fill_yarn(scaling, rope);
	if (good)
		return scaling;
	json_decref(scaling);
	return NULL;
}

bool hf_config_rope_write(json_t *root, const struct model_config *config)
{
	const struct rope_config *rope = &config->rope;
	unsigned positions =
		rope->positions ? rope->positions : config->context;
	json_t *scaling = scaling_of(rope);

	return scaling &&
	       json_object_set_new(root, "max_position_embeddings",
				   json_integer(positions)) == 0 &&
	       set_real(root, "rope_theta", rope->theta) &&
	       json_object_set_new(root, "rope_scaling", scaling) == 0;
}
