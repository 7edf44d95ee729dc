#include "model/kernels/gemm_dnnl.h"
#include "base/log.h"
#include "model/kernels/gemm_dnnl_memory.h"
#include "model/kernels/gemm_pack.h"
#include "model/kernels/gemm_scratch.h"

#include <dlfcn.h>
#include <dnnl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the library ---- */

/* Its functions, looked up by name. */
#define FUNCTIONS(DO)                                                          \
	DO(version)                                                            \
	DO(get_effective_cpu_isa)                                              \
	DO(get_cpu_isa_hints)                                                  \
	DO(engine_create)                                                      \
	DO(stream_create)                                                      \
	DO(stream_destroy)                                                     \
	DO(memory_desc_init_by_tag)                                            \
	DO(memory_desc_get_size)                                               \
	DO(memory_create)                                                      \
	DO(memory_destroy)                                                     \
	DO(memory_set_data_handle)                                             \
	DO(matmul_desc_init)                                                   \
	DO(primitive_attr_create)                                              \
	DO(primitive_attr_destroy)                                             \
	DO(primitive_attr_set_scratchpad_mode)                                 \
	DO(primitive_desc_iterator_create)                                     \
	DO(primitive_desc_iterator_next)                                       \
	DO(primitive_desc_iterator_fetch)                                      \
	DO(primitive_desc_iterator_destroy)                                    \
	DO(primitive_desc_query)                                               \
	DO(primitive_desc_query_md)                                            \
	DO(primitive_desc_destroy)                                             \
	DO(primitive_create)                                                   \
	DO(primitive_execute)                                                  \
	DO(primitive_destroy)

#define POINTER(name) __typeof__(&dnnl_##name) name;
static struct {
	FUNCTIONS(POINTER)
	void (*omp_set_num_threads)(int count); /* NULL: built without OpenMP */
} dnnl;

static dnnl_engine_t engine;

static bool look_up(void *library, const char *name, void *pointer)
{
	void *symbol = dlsym(library, name);

	memcpy(pointer, &symbol, sizeof(symbol));
	return symbol != NULL;
}

/* That it computes on the calling thread alone can be asked for. */
static bool library_is_single(void)
{
	unsigned runtime = dnnl.version()->cpu_runtime;

	return runtime == DNNL_RUNTIME_SEQ ||
	       (runtime == DNNL_RUNTIME_OMP &&
		dnnl.omp_set_num_threads != NULL);
}

static bool functions_find(void *library)
{
	bool found = true;

#define FIND(name) found = found && look_up(library, "dnnl_" #name, &dnnl.name);
	FUNCTIONS(FIND)
	look_up(library, "omp_set_num_threads", &dnnl.omp_set_num_threads);
	return found;
}

/* ---- one product ---- */

struct tile {
	size_t rows, columns, k;
	dnnl_primitive_t primitive;
	dnnl_memory_t a, b, c, scratchpad;
};

static bool create_descriptors(size_t rows, size_t columns, size_t k,
			       dnnl_matmul_desc_t *out)
{
	const dnnl_dims_t of_a = {(dnnl_dim_t)rows, (dnnl_dim_t)k};
	const dnnl_dims_t of_b = {(dnnl_dim_t)k, (dnnl_dim_t)columns};
	const dnnl_dims_t of_c = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
	dnnl_memory_desc_t a, b, c;

	return dnnl.memory_desc_init_by_tag(&a, 2, of_a, dnnl_bf16, dnnl_ab) ==
		       dnnl_success &&
	       dnnl.memory_desc_init_by_tag(&b, 2, of_b, dnnl_bf16,
					    dnnl_BA16a64b2a) == dnnl_success &&
	       dnnl.memory_desc_init_by_tag(&c, 2, of_c, dnnl_f32, dnnl_ab) ==
		       dnnl_success &&
	       dnnl.matmul_desc_init(out, &a, &b, NULL, &c) == dnnl_success;
}

static const char *kind_of(const_dnnl_primitive_desc_t description)
{
	const char *kind = NULL;

	if (dnnl.primitive_desc_query(description, dnnl_query_impl_info_str, 0,
				      &kind) != dnnl_success)
		return "";
	return kind;
}

/* Not one that emulates bfloat16, nor one that allocates while it multiplies. */
static bool kind_is_wanted(const char *kind)
{
	return strncmp(kind, "brg:", 4) == 0 && strstr(kind, "bf16") != NULL;
}

/* NULL: there is none, or no memory for it. */
static dnnl_primitive_desc_t describe(size_t rows, size_t columns, size_t k)
{
	dnnl_primitive_desc_iterator_t kinds;
	dnnl_primitive_desc_t found = NULL;
	dnnl_primitive_attr_t attributes;
	dnnl_matmul_desc_t matmul;

	if (!create_descriptors(rows, columns, k, &matmul) ||
	    dnnl.primitive_attr_create(&attributes) != dnnl_success)
		return NULL;
	if (dnnl.primitive_attr_set_scratchpad_mode(
		    attributes, dnnl_scratchpad_mode_user) == dnnl_success &&
	    dnnl.primitive_desc_iterator_create(&kinds, &matmul, attributes,
						engine, NULL) == dnnl_success) {
		do {
			found = dnnl.primitive_desc_iterator_fetch(kinds);
			if (found != NULL && kind_is_wanted(kind_of(found)))
				break;
			if (found != NULL)
				dnnl.primitive_desc_destroy(found);
			found = NULL;
		} while (dnnl.primitive_desc_iterator_next(kinds) ==
			 dnnl_success);
		dnnl.primitive_desc_iterator_destroy(kinds);
	}
	dnnl.primitive_attr_destroy(attributes);
	return found;
}

/* ---- opening ---- */

static pthread_once_t open_once = PTHREAD_ONCE_INIT;
static char identity[128];

/* Of a usual tile; whether there is one is a matter of the processor. */
static bool kind_find(char *out, size_t size)
{
	dnnl_primitive_desc_t description = describe(256, 192, 768);

	if (description == NULL)
		return false;
	snprintf(out, size, "%s", kind_of(description));
	dnnl.primitive_desc_destroy(description);
	return true;
}

static void library_open(void)
{
	void *library = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
	const dnnl_version_t *version;
	char kind[64];

	if (library == NULL) {
		log_debug("oneDNN: %s", dlerror());
		return;
	}
	if (!functions_find(library) || !library_is_single() ||
	    dnnl.engine_create(&engine, dnnl_cpu, 0) != dnnl_success) {
		log_debug("oneDNN: not of the kind this was built for");
		return;
	}
	if (!kind_find(kind, sizeof(kind))) {
		log_debug("oneDNN: this processor has no bfloat16");
		return;
	}
	version = dnnl.version();
	snprintf(identity, sizeof(identity),
		 "oneDNN %d.%d.%d %s isa 0x%x hints 0x%x %s", version->major,
		 version->minor, version->patch, version->hash,
		 (unsigned)dnnl.get_effective_cpu_isa(),
		 (unsigned)dnnl.get_cpu_isa_hints(), kind);
}

const char *gemm_dnnl_open(void)
{
	pthread_once(&open_once, library_open);
	return identity[0] != '\0' ? identity : NULL;
}

/* ---- a thread's tiles ---- */

static _Thread_local struct thread_tiles {
	dnnl_stream_t stream;
	struct tile *tiles;
	size_t count, capacity;
	size_t last; /* used; where a search begins */
} own;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

static void tile_destroy(struct tile *tile)
{
	dnnl_memory_t memories[] = {tile->a, tile->b, tile->c,
				    tile->scratchpad};

	for (size_t i = 0; i < ARRAY_SIZE(memories); i++)
		if (memories[i] != NULL)
			dnnl.memory_destroy(memories[i]);
	if (tile->primitive != NULL)
		dnnl.primitive_destroy(tile->primitive);
}

/* Runs when a thread ends. */
static void tiles_destroy(void *argument)
{
	struct thread_tiles *tiles = argument;

	for (size_t i = 0; i < tiles->count; i++)
		tile_destroy(&tiles->tiles[i]);
	free(tiles->tiles);
	dnnl.stream_destroy(tiles->stream);
	*tiles = (struct thread_tiles){0};
}

static void key_create(void)
{
	key_error = pthread_key_create(&key, tiles_destroy);
}

/* Our team shares the work: one thread inside. Once a thread. */
static int thread_prepare(void)
{
	int error;

	if (own.stream != NULL)
		return 0;
	pthread_once(&key_once, key_create);
	error = gemm_dnnl_memory_prepare();
	if (error != 0)
		return error;
	if (dnnl.omp_set_num_threads != NULL)
		dnnl.omp_set_num_threads(1);
	if (key_error != 0 ||
	    dnnl.stream_create(&own.stream, engine,
			       dnnl_stream_default_flags) != dnnl_success)
		return fail(-ENOMEM, "no memory for a stream of oneDNN");
	if (pthread_setspecific(key, &own) == 0)
		return 0;
	dnnl.stream_destroy(own.stream);
	own.stream = NULL;
	return fail(-ENOMEM, "no memory for a thread's products");
}

static bool memory_create(dnnl_primitive_desc_t description, dnnl_query_t which,
			  dnnl_memory_t *out)
{
	return dnnl.memory_create(
		       out, dnnl.primitive_desc_query_md(description, which, 0),
		       engine, DNNL_MEMORY_NONE) == dnnl_success;
}

static int tile_create(dnnl_primitive_desc_t description, struct tile *tile)
{
	size_t bytes = dnnl.memory_desc_get_size(dnnl.primitive_desc_query_md(
		description, dnnl_query_scratchpad_md, 0));
	int error = gemm_scratch_grow(GEMM_PIECE_LIBRARY, bytes);

	if (error != 0)
		return error;
	if (dnnl.primitive_create(&tile->primitive, description) ==
		    dnnl_success &&
	    memory_create(description, dnnl_query_src_md, &tile->a) &&
	    memory_create(description, dnnl_query_weights_md, &tile->b) &&
	    memory_create(description, dnnl_query_dst_md, &tile->c) &&
	    memory_create(description, dnnl_query_scratchpad_md,
			  &tile->scratchpad))
		return 0;
	tile_destroy(tile);
	return fail(-ENOMEM, "no memory for a product of oneDNN");
}

static int tiles_reserve(void)
{
	size_t capacity = MAX(2 * own.capacity, (size_t)32);
	struct tile *tiles;

	if (own.count < own.capacity)
		return 0;
	tiles = realloc(own.tiles, capacity * sizeof(*tiles));
	if (tiles == NULL)
		return fail(-ENOMEM, "no memory for a thread's products");
	own.tiles = tiles;
	own.capacity = capacity;
	return 0;
}

static bool tile_is(const struct tile *tile, size_t rows, size_t columns,
		    size_t k)
{
	return tile->rows == rows && tile->columns == columns && tile->k == k;
}

/* Mostly the one before, or a few on. */
static struct tile *tile_find(size_t rows, size_t columns, size_t k)
{
	for (size_t i = 0, at = own.last; i < own.count; i++, at++) {
		if (at >= own.count)
			at = 0;
		if (tile_is(&own.tiles[at], rows, columns, k)) {
			own.last = at;
			return &own.tiles[at];
		}
	}
	return NULL;
}

static size_t rounded_bytes(size_t bytes)
{
	return (bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES *
	       CACHE_LINE_BYTES;
}

/* What the library sets up late for a thread, at its first product, is now. */
static int tile_try(const struct tile *tile)
{
	size_t a = rounded_bytes(tile->rows * tile->k * sizeof(bfloat16));
	size_t b =
		rounded_bytes((tile->k + 1) * tile->columns * sizeof(bfloat16));
	size_t c = rounded_bytes(tile->rows * tile->columns * sizeof(float));
	unsigned char *memory = aligned_alloc(CACHE_LINE_BYTES, a + b + c);

	if (memory == NULL)
		return fail(-ENOMEM, "no memory to try a product of oneDNN");
	memset(memory, 0, a + b + c);
	gemm_dnnl_tile(tile->rows, tile->columns, tile->k,
		       (const bfloat16 *)(const void *)memory,
		       (const bfloat16 *)(const void *)(memory + a),
		       (float *)(void *)(memory + a + b));
	free(memory);
	return 0;
}

int gemm_dnnl_prepare(size_t rows, size_t columns, size_t k)
{
	struct tile tile = {.rows = rows, .columns = columns, .k = k};
	dnnl_primitive_desc_t description;
	int error = thread_prepare();

	if (error == 0 && tile_find(rows, columns, k) != NULL)
		return 0;
	if (error == 0)
		error = tiles_reserve();
	if (error != 0)
		return error;
	description = describe(rows, columns, k);
	if (description == NULL)
		return fail(-ENOMEM,
			    "oneDNN makes no product of %zu x %zu x %zu in "
			    "bfloat16; STAGECOACH_BFLOAT16=widened does "
			    "without it",
			    rows, columns, k);
	error = tile_create(description, &tile);
	dnnl.primitive_desc_destroy(description);
	if (error != 0)
		return error;
	own.tiles[own.count++] = tile;
	return own.count == 1 ? tile_try(&tile) : 0;
}

void gemm_dnnl_tile(size_t rows, size_t columns, size_t k, const bfloat16 *a,
		    const bfloat16 *b, float *c)
{
	struct tile *tile = tile_find(rows, columns, k);
	dnnl_exec_arg_t arguments[4];
	dnnl_status_t status;

	ASSERT(tile != NULL);
	dnnl.memory_set_data_handle(tile->a, (void *)(uintptr_t)a);
	dnnl.memory_set_data_handle(tile->b, (void *)(uintptr_t)b);
	dnnl.memory_set_data_handle(tile->c, c);
	dnnl.memory_set_data_handle(tile->scratchpad,
				    gemm_scratch(GEMM_PIECE_LIBRARY));
	arguments[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, tile->a};
	arguments[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, tile->b};
	arguments[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, tile->c};
	arguments[3] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, tile->scratchpad};
	gemm_dnnl_memory_enter();
	status = dnnl.primitive_execute(tile->primitive, own.stream, 4,
					arguments);
	gemm_dnnl_memory_leave();
	ASSERT(status == dnnl_success);
}
