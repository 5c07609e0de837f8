/* See indexmap.h. */
#include "indexmap.h"

#include <errno.h>

static bool in(const uint64_t *list, size_t n, uint64_t cookie)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == cookie)
			return true;
	return false;
}

static int position(const struct index_map *m, uint64_t cookie)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->e[i].cookie == cookie)
			return (int)i;
	return -1;
}

/* One socket left: the last one moves into its place. */
static void remove_at(struct index_map *m, unsigned i)
{
	struct index_entry last = m->e[m->n - 1];
	bool was_certain = m->e[i].certain;

	if (!was_certain && last.certain && m->n - 1 != i)
		m->lost = true; /* it moved to one of several places */
	m->n--;
	if (i == m->n)
		return;
	m->e[i] = last;
	if (!was_certain)
		m->e[i].certain = false;
}

static bool an_uncertain_one_stays(const struct index_map *m, const uint64_t *now, size_t n)
{
	for (unsigned i = 0; i < m->n; i++)
		if (!m->e[i].certain && in(now, n, m->e[i].cookie))
			return true;
	return false;
}

static void remove_vanished(struct index_map *m, const uint64_t *now, size_t n, bool joined)
{
	bool stays = an_uncertain_one_stays(m, now, n);
	unsigned gone = 0;

	/* An uncertain one that stands last here may have another place in the kernel's array. */
	while (m->n > 0 && !in(now, n, m->e[m->n - 1].cookie) && (m->e[m->n - 1].certain || !stays))
		m->n--;
	for (unsigned i = 0; i < m->n; i++)
		gone += !in(now, n, m->e[i].cookie);
	if (gone > 1 || (gone == 1 && joined))
		m->lost = true;
	for (unsigned i = 0; i < m->n;) {
		if (in(now, n, m->e[i].cookie))
			i++;
		else
			remove_at(m, i);
	}
}

/* The only one that can be there. */
static void conclude(struct index_map *m)
{
	unsigned uncertain = 0;

	for (unsigned i = 0; i < m->n; i++)
		uncertain += !m->e[i].certain;
	for (unsigned i = 0; uncertain == 1 && i < m->n; i++)
		m->e[i].certain = true;
}

void index_update(struct index_map *m, const uint64_t *now, size_t n)
{
	unsigned before = m->n;
	size_t joined = 0;

	for (size_t k = 0; k < n; k++)
		joined += position(m, now[k]) == -1;
	if (joined > 0 || n != before)
		m->changes++;
	remove_vanished(m, now, n, joined > 0);
	for (size_t k = 0; k < n; k++) {
		if (position(m, now[k]) != -1)
			continue;
		if (m->n == INDEX_MAX) {
			m->lost = true;
			return;
		}
		m->e[m->n].cookie = now[k];
		m->e[m->n].certain = joined == 1;
		m->e[m->n].marked = false;
		m->n++;
	}
	conclude(m);
	if (m->n <= 1) {
		m->lost = false;
		if (m->n == 1)
			m->e[0].certain = true;
	}
}

void index_doubt(struct index_map *m)
{
	for (unsigned i = 0; m->lost && i < m->n; i++)
		m->e[i].certain = false;
	m->lost = false;
}

bool index_prove(struct index_map *m, unsigned index, uint64_t cookie)
{
	int at = position(m, cookie);
	struct index_entry proven;

	if (at == -1 || index >= m->n || m->lost)
		return false;
	if (m->e[at].certain || m->e[index].certain)
		return (unsigned)at == index;
	proven = m->e[at];
	m->e[at] = m->e[index];
	m->e[index] = proven;
	m->e[index].certain = true;
	conclude(m);
	return true;
}

int index_find(const struct index_map *m, uint64_t cookie)
{
	int i = position(m, cookie);

	if (i == -1)
		return -ENOENT;
	return m->lost || !m->e[i].certain ? -EAGAIN : i;
}
