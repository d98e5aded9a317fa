//! A guest's ring buffer.

use std::os::fd::AsFd as _;

use aya::maps::{Map, MapData, RingBuf};

use crate::{
    error::{Result, Step as _},
    fault::{self, Point},
};

/// Makes one for `bytes` of records; with it another handle of its map.
pub(super) fn new_ring(bytes: u32) -> Result<(RingBuf<MapData>, MapData)> {
    let object = aya_obj::Map::new_from_params(
        aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32,
        0,
        0,
        bytes,
        0,
    );
    let step = || "create the ring buffer for records".to_owned();
    fault::call(Point::MakeRing).step(step)?;
    let data = MapData::create(object, "records", None).step(step)?;
    let again = data.fd().as_fd().try_clone_to_owned().step(step)?;
    let again = MapData::from_fd(again).step(step)?;
    let map = Map::from_map_data(data).step(|| "use the ring buffer".into())?;
    Ok((RingBuf::try_from(map).step(|| "map the ring buffer".into())?, again))
}
