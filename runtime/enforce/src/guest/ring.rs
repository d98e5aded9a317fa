//! A guest's ring buffer.

use aya::maps::{Map, MapData, RingBuf};

use crate::{
    error::{Result, Step as _},
    fault::{self, Point},
};

/// Makes one for `bytes` of records.
pub(super) fn new_ring(bytes: u32) -> Result<RingBuf<MapData>> {
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
    let map = Map::from_map_data(data).step(|| "use the ring buffer".into())?;
    RingBuf::try_from(map).step(|| "map the ring buffer".into())
}
