//! Top-level `volumes:`.

use std::collections::BTreeMap;

use super::network::external;
use super::{Place, Report};
use crate::spec::keys;
use crate::spec::stack::Volume;

pub(crate) fn volumes(place: &Place<'_>, report: &mut Report) -> BTreeMap<String, Volume> {
    let entries = place.entries(report);
    entries.into_iter().map(|(key, place)| (key.to_owned(), volume(&place, report))).collect()
}

fn volume(place: &Place<'_>, report: &mut Report) -> Volume {
    let mut volume = Volume::default();
    if place.is_null() {
        return volume;
    }
    let Some(mut fields) = place.fields(&keys::VOLUME, report) else { return volume };
    volume.name = fields.get("name").and_then(|place| place.string(report));
    (volume.external, volume.name) = external(fields.get("external"), volume.name, report);
    if let Some(place) = fields.get("driver") {
        volume.driver = place.word(report, &keys::VOLUME_DRIVERS).map(str::to_owned);
    }
    volume.driver_opts =
        fields.get("driver_opts").map(|place| place.map(report)).unwrap_or_default();
    volume.labels = fields
        .get("labels")
        .map(|place| super::service::labels(&place, report))
        .unwrap_or_default();
    fields.finish(report);
    volume
}
