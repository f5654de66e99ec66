//! What befalls the processes: they are killed, shut down and started, and their database fails them.

use std::sync::Arc;
use std::time::Duration;

use sidestream::testing::Faults;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::world::{Part, World};

pub(crate) async fn reign(world: Arc<World>, dice: Dice) {
    let slots = world.settings.processes as u64;
    while world.part() == Part::Bustle {
        sleep(dice.ms(200, 6_000)).await;
        let slot = dice.below(slots) as usize;
        match dice.below(10) {
            0..4 => storm(&world, &dice).await,
            4..7 => {
                world.kill(slot);
                sleep(dice.ms(0, 8_000)).await;
                world.start(slot).await;
            }
            _ => {
                world.shut_down(slot).await;
                sleep(dice.ms(0, 3_000)).await;
                world.start(slot).await;
            }
        }
    }
    for slot in 0..slots as usize {
        world.set_faults(slot, Faults::NONE);
        world.start(slot).await;
    }
}

/// For a while much goes wrong, for each process in its own way; and some die of it.
async fn storm(world: &World, dice: &Dice) {
    let slots = world.settings.processes;
    world.referee.calm(false);
    let mut longest = Duration::ZERO;
    for slot in 0..slots {
        let faults = some_faults(dice);
        longest = longest.max(faults.delay_max);
        world
            .referee
            .note(format_args!("storm in {slot}: {faults:?}"));
        world.set_faults(slot, faults);
    }
    for _ in 0..dice.between(1, 4) {
        sleep(dice.ms(100, 5_000)).await;
        let slot = dice.below(slots as u64) as usize;
        match dice.below(4) {
            0 => {
                world.kill(slot);
                sleep(dice.ms(0, 1_000)).await;
                world.start(slot).await;
            }
            1 => world.set_faults(slot, some_faults(dice)),
            _ => {}
        }
    }
    for slot in 0..slots {
        world.set_faults(slot, Faults::NONE);
    }
    // What is under way takes its time still, and what lands later lands.
    sleep(DELAY_MAX * 2).await;
    world.referee.calm(true);
}

/// The longest delay that a storm brings.
const DELAY_MAX: Duration = Duration::from_millis(7_000);

fn some_faults(dice: &Dice) -> Faults {
    match dice.below(6) {
        0 => Faults::OUTAGE,
        1 => Faults {
            drops_bells: 1_000,
            ..Faults::NONE
        },
        // The store hangs, and fails nothing.
        2 => Faults {
            delays: 700,
            delay_max: DELAY_MAX,
            ..Faults::NONE
        },
        3 => Faults {
            fails_reads: 500,
            breaks_snapshots: 500,
            ..Faults::NONE
        },
        _ => Faults {
            fails_before: dice.between(0, 200) as u16,
            fails_after: dice.between(0, 100) as u16,
            lands_later: dice.between(0, 50) as u16,
            repeats: dice.between(0, 300) as u16,
            fails_reads: dice.between(0, 200) as u16,
            breaks_snapshots: 100,
            drops_bells: dice.between(0, 500) as u16,
            delays: dice.between(0, 500) as u16,
            delay_max: dice.ms(1, 800),
        },
    }
}
