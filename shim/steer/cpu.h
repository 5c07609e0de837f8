/* The table with key=cpu: slot k serves every CPU whose number is k modulo the slots. Pure functions. */
#ifndef SOCKSHARD_STEER_CPU_H
#define SOCKSHARD_STEER_CPU_H

#include "bucket.h"

/**
 * cpu_deal - give each slot the range of its number
 * @slots: as of bucket_deal(); n entries, slots below BUCKETS_MAX
 *
 * The table is cut into as many equal ranges as the highest slot's number has numbers below it, and
 * one: range k is at home at slot k. The range of a number without a live slot is dealt evenly to the
 * live ones; while there is none, to all that are listed. What is left over at the end of the table
 * belongs to nobody: the program never comes there.
 *
 * Returns the number of ranges, 0 for no slots; -EINVAL for a slot of BUCKETS_MAX or above.
 */
int cpu_deal(struct bucket_table *t, const struct bucket_slot *slots, size_t n);

/** cpu_range - buckets of one range of a table with so many of them */
unsigned cpu_range(const struct bucket_table *t, unsigned cpus);

#endif
