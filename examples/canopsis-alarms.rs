//! Prints what the alarm in Canopsis is after each event, by the model of Canopsis that the tests use. Reads one event (JSON) a line,
//! in the order of the queue. For `scripts/demo`.

use std::error::Error;
use std::io;

#[allow(dead_code)]
#[path = "../tests/support/canopsis.rs"]
mod canopsis;

use canopsis::Canopsis;

fn main() -> Result<(), Box<dyn Error>> {
    const STATES: [&str; 4] = ["ok", "minor", "major", "critical"];
    let mut canopsis = Canopsis::default();
    println!("state  {:50}  entity", "alarm");
    for line in io::stdin().lines() {
        let event: serde_json::Value = serde_json::from_str(&line?)?;
        let names = ["resource", "component"].map(|key| event[key].as_str().unwrap_or_default());
        let before = canopsis.state(&names.join("/"));
        let entity = canopsis.take(&event)?;
        let after = canopsis.state(&entity);
        let name = usize::try_from(after)
            .ok()
            .and_then(|state| STATES.get(state))
            .unwrap_or(&"unknown");
        let alarm = match (before, after) {
            (0, 0) => "none".to_owned(),
            (0, _) => format!("opened, {name}"),
            (_, 0) => "closed".to_owned(),
            _ if before == after => format!("{name} as before: no new step, ticket or mail"),
            _ => format!("changed to {name}"),
        };
        println!("{after:>5}  {alarm:50}  {entity}");
    }
    Ok(())
}
