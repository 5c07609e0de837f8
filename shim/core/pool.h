/* Memory for the tables of the preload, from mmap(2): the server's malloc may be anybody's, and may
 * call us. Everything under the lock of fdtab. */
#ifndef SOCKSHARD_CORE_POOL_H
#define SOCKSHARD_CORE_POOL_H

#include <stddef.h>

/** pool_alloc - NULL when there is no memory; the content is undefined */
void *pool_alloc(size_t bytes);

/** pool_free - back for the next pool_alloc of the same size */
void pool_free(void *p, size_t bytes);

#endif
