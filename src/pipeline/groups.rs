//! What the groups of Alertmanager last said of each entity: where two groups share one, each changes the alarm of the other.
//!
//! Pure, and bounded. It decides nothing about events: it only notices.

use std::collections::HashMap;
use std::mem;

use crate::event::State;
use crate::publisher::Entity;

/// The most entities of a generation. There are two: about 5 MiB.
const MAX_ENTITIES: usize = 32_768;

/// A group of one receiver, as a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group(pub u64);

/// Two groups that have an alarm of one entity, with the states they gave it. State 0 means that there is none.
type Alarms = [(Group, State); 2];

const NONE: Alarms = [(Group(0), State::Ok); 2];

/// The entities that have an alarm, the least recently used forgotten.
#[derive(Debug, Default)]
pub struct EntityGroups {
    recent: HashMap<Entity, Alarms>,
    older: HashMap<Entity, Alarms>,
}

impl EntityGroups {
    /// The positions of the events of a group that would lower or close the alarm that another group has raised.
    pub fn lowered(&self, group: Group, events: &[(Entity, State)]) -> Vec<usize> {
        let is_lowered = |position: &usize| {
            let (entity, state) = &events[*position];
            let found = self.recent.get(entity).or_else(|| self.older.get(entity));
            found.is_some_and(|alarms| alarms.iter().any(|alarm| is_above(*alarm, group, *state)))
        };
        (0..events.len()).filter(is_lowered).collect()
    }

    /// Records the delivered events of a group. What they have lowered is forgotten, so that it is reported once.
    pub fn record(&mut self, group: Group, events: &[(Entity, State)]) {
        for &(entity, state) in events {
            let older = self.older.remove(&entity);
            let mut alarms = self.recent.remove(&entity).or(older).unwrap_or(NONE);
            for alarm in &mut alarms {
                if alarm.0 == group || is_above(*alarm, group, state) {
                    alarm.1 = State::Ok;
                }
            }
            // Of three groups, the two highest states are kept.
            alarms.sort_by_key(|(_, state)| *state);
            if state > alarms[0].1 {
                alarms[0] = (group, state);
            }
            if alarms.iter().all(|(_, state)| *state == State::Ok) {
                continue;
            }
            if self.recent.len() == MAX_ENTITIES {
                self.older = mem::take(&mut self.recent);
            }
            self.recent.insert(entity, alarms);
        }
    }
}

fn is_above(alarm: (Group, State), group: Group, state: State) -> bool {
    alarm.0 != group && alarm.1 > state
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const ENTITY: Entity = Entity(1);

    fn state(number: u8) -> State {
        [State::Ok, State::Minor, State::Major, State::Critical][usize::from(number)]
    }

    /// Whether an event would lower or close the alarm that another group has raised.
    fn is_lowered(groups: &EntityGroups, entity: Entity, group: Group, state: State) -> bool {
        // Among events of other entities, which nothing is known of.
        let others = [u64::MAX - 1, u64::MAX - 2].map(|entity| (Entity(entity), State::Ok));
        let events = [others[0], (entity, state), others[1]];
        let lowered = groups.lowered(group, &events);
        assert!(lowered.is_empty() || lowered == [1], "{lowered:?}");
        !lowered.is_empty()
    }

    /// Records each event, and returns which of them lower another group's alarm.
    fn lowered(events: &[(u64, u8)]) -> Vec<usize> {
        let mut groups = EntityGroups::default();
        let mut lowered = Vec::new();
        for (index, (group, number)) in events.iter().enumerate() {
            let (group, state) = (Group(*group), state(*number));
            if is_lowered(&groups, ENTITY, group, state) {
                lowered.push(index);
            }
            groups.record(group, &[(ENTITY, state)]);
        }
        lowered
    }

    #[test]
    fn a_group_that_lowers_the_alarm_of_another_is_noticed_once() {
        for (events, expected) in [
            (&[(1, 2), (1, 1), (1, 0), (1, 3), (1, 0)][..], &[][..]),
            (&[(1, 2), (2, 2), (1, 2), (2, 3)], &[]),
            (&[(1, 2), (2, 0), (2, 0)], &[1]),
            (&[(1, 2), (2, 1), (2, 1), (1, 2), (2, 1)], &[1, 4]),
            (&[(1, 2), (1, 0), (2, 0)], &[]),
            // Three groups take turns, and one of them closes.
            (&[(1, 1), (2, 2), (3, 3), (1, 1), (2, 0)], &[3, 4]),
            (&[(1, 3), (2, 2), (3, 1), (3, 0)], &[1, 2]),
            (&[(1, 1), (2, 2), (3, 2), (3, 0)], &[3]),
        ] {
            assert_eq!(lowered(events), expected, "{events:?}");
        }
    }

    #[test]
    fn memory_is_bounded_and_recent_entities_are_kept() {
        let mut groups = EntityGroups::default();
        let kept = Entity(u64::MAX);
        for number in 0..200_000 {
            groups.record(Group(1), &[(Entity(number), State::Major)]);
            if number % 1_000 == 0 {
                groups.record(Group(1), &[(kept, State::Major)]);
            }
            assert!(groups.recent.len() <= MAX_ENTITIES && groups.older.len() <= MAX_ENTITIES);
        }
        let by_another = |groups: &_, entity, state| is_lowered(groups, entity, Group(2), state);
        assert!(by_another(&groups, kept, State::Minor));
        assert!(by_another(&groups, Entity(199_999), State::Minor));
        assert!(!by_another(&groups, Entity(1), State::Minor), "the oldest");
        groups.record(Group(1), &[(kept, State::Ok)]);
        assert!(!by_another(&groups, kept, State::Ok), "closed");
        let bytes = 2 * 2 * MAX_ENTITIES * (size_of::<(Entity, Alarms)>() + 1);
        assert!(bytes <= 6 << 20, "{bytes}");
    }

    proptest! {
        /// Of two groups, nothing that is right is reported, and the moment at which one lowers the other's alarm always is.
        #[test]
        fn two_groups_are_compared_with_what_each_said_last(events in vec((1_u64..3, 0_u8..4), 0..20)) {
            let mut said = [0_u8; 3];
            let mut expected = Vec::new();
            for (index, (group, number)) in events.iter().enumerate() {
                let (own, other) = if *group == 1 { (1, 2) } else { (2, 1) };
                if said[other] > *number {
                    expected.push(index);
                    said[other] = 0;
                }
                said[own] = *number;
            }
            prop_assert_eq!(lowered(&events), expected);
        }
    }
}
