//! The sender's side: packets, single-use reply blocks and what opens their answers.

use std::sync::Mutex;

use betanet_sphinx as sphinx;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::bytes::{AtMost, Fixed, List, Parity, reserve, to_python, try_to_python};
use crate::errors::{OrRaise, named};
use crate::keys::Hop;
use crate::lock;
use crate::rng;

/// What a packet carries for its user.
type Payload = AtMost<{ sphinx::USER_PAYLOAD_LEN }>;

fn fitting(py: Python<'_>, payload: Payload) -> PyResult<Vec<u8>> {
    payload.0.map_err(|len| sphinx::BuildError::PayloadTooLong { len, max: sphinx::USER_PAYLOAD_LEN }).or_raise(py)
}

/// Builds a forward packet.
#[pyfunction]
#[pyo3(signature = (path, mailbox, payload, *, parity = Parity(0)), text_signature = "(path, mailbox, payload, *, parity=0)")]
pub(crate) fn create_packet(
    py: Python<'_>,
    path: List<Bound<'_, Hop>>,
    mailbox: Fixed<16>,
    payload: Payload,
    parity: Parity,
) -> PyResult<Py<PyBytes>> {
    let payload = fitting(py, payload)?;
    let path = to_core(&path);
    let mut rng = rng::fresh().or_raise(py)?;
    let built = py.detach(|| {
        let mut packet = [0; sphinx::PACKET_LEN];
        sphinx::build_forward(&mut rng, parity.0, &path, (*mailbox.0).into(), &payload, &mut packet).map(|_| packet)
    });
    Ok(to_python(py, &built.or_raise(py)?))
}

/// Builds forward packets together, so that their multiplications share the lanes of a vector unit.
#[pyfunction]
#[pyo3(signature = (packets, *, parity = Parity(0)), text_signature = "(packets, *, parity=0)")]
pub(crate) fn create_packets(
    py: Python<'_>,
    packets: List<(List<Bound<'_, Hop>>, Fixed<16>, Payload)>,
    parity: Parity,
) -> PyResult<Vec<Py<PyBytes>>> {
    let packets = packets.0.into_iter().map(|(path, to, payload)| Ok((to_core(&path), *to.0, fitting(py, payload)?)));
    let packets = packets.collect::<PyResult<Vec<_>>>()?;
    let mut out = reserve(py, packets.len())?;
    for _ in 0..packets.len() {
        let mut packet = reserve(py, sphinx::PACKET_LEN)?;
        packet.resize(sphinx::PACKET_LEN, 0);
        out.push(packet);
    }
    let mut rng = rng::fresh().or_raise(py)?;
    let built = py.detach(|| {
        let drafts: Vec<_> = packets
            .iter()
            .map(|(path, to, payload)| sphinx::Draft::new(parity.0, path, (*to).into(), payload))
            .collect();
        let outcomes = sphinx::build_forward_batch(&mut rng, &drafts, &mut out);
        outcomes.into_iter().zip(out).map(|(outcome, packet)| outcome.map(|_| packet)).collect::<Result<Vec<_>, _>>()
    });
    built.or_raise(py)?.iter().map(|packet| try_to_python(py, packet)).collect()
}

/// Builds a SURB and its opener.
#[pyfunction]
#[pyo3(
    signature = (path, mailbox, *, surb_id = None, parity = Parity(0)),
    text_signature = "(path, mailbox, *, surb_id=None, parity=0)"
)]
pub(crate) fn create_surb(
    py: Python<'_>,
    path: List<Bound<'_, Hop>>,
    mailbox: Fixed<16>,
    surb_id: Option<Fixed<16>>,
    parity: Parity,
) -> PyResult<(Surb, ReplyOpener)> {
    let path = to_core(&path);
    let mut rng = rng::fresh().or_raise(py)?;
    let surb_id = surb_id.map_or_else(
        || {
            let mut id = [0; 16];
            rand_core::Rng::fill_bytes(&mut rng, &mut id);
            id
        },
        |Fixed(id)| *id,
    );
    let built = py.detach(|| sphinx::build_surb(&mut rng, parity.0, &path, (*mailbox.0).into(), surb_id.into()));
    let (surb, opener) = built.or_raise(py)?;
    Ok((Surb::new(surb), ReplyOpener::new(opener)))
}

fn to_core(path: &List<Bound<'_, Hop>>) -> Vec<sphinx::Hop> {
    path.0.iter().map(|hop| hop.get().to_core()).collect()
}

/// A single-use reply block; empty once used.
#[pyclass(frozen, module = "betanet", name = "Surb")]
pub(crate) struct Surb {
    first: sphinx::NodeId,
    /// In a box, which erases the key where it stands; moving it out would leave a copy.
    core: Mutex<Option<Box<sphinx::Surb>>>,
}

impl Surb {
    fn new(core: sphinx::Surb) -> Self {
        Self { first: core.first(), core: Mutex::new(Some(Box::new(core))) }
    }
}

fn used(py: Python<'_>) -> PyErr {
    named(py, "InvalidSurb", "this SURB was used: a second reply would be a replay".to_owned())
}

#[pymethods]
impl Surb {
    #[staticmethod]
    fn parse(py: Python<'_>, data: AtMost<{ sphinx::SURB_LEN }>) -> PyResult<Self> {
        let wrong_length = |len| sphinx::SurbError::WrongLength { len };
        data.0.map_err(wrong_length).and_then(|data| sphinx::Surb::parse(&data)).map(Self::new).or_raise(py)
    }

    #[getter]
    fn first(&self, py: Python<'_>) -> Py<PyBytes> {
        to_python(py, self.first.as_bytes())
    }

    fn reply(&self, py: Python<'_>, payload: Payload) -> PyResult<Py<PyBytes>> {
        let payload = fitting(py, payload)?;
        let surb = lock(&self.core).take().ok_or_else(|| used(py))?;
        let built = py.detach(|| {
            let mut packet = [0; sphinx::PACKET_LEN];
            surb.reply(&payload, &mut packet).map(|()| packet)
        });
        Ok(to_python(py, &built.or_raise(py)?))
    }

    fn to_bytes(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        let bytes = lock(&self.core).as_ref().map(|surb| surb.to_bytes()).ok_or_else(|| used(py))?;
        Ok(to_python(py, &bytes))
    }

    fn __repr__(&self) -> String {
        format!("Surb(first={})", self.first)
    }
}

/// What its maker keeps to open the one answer of a SURB; empty once used.
#[pyclass(frozen, module = "betanet", name = "ReplyOpener")]
pub(crate) struct ReplyOpener {
    surb_id: sphinx::SurbId,
    /// In a box, as that of a SURB.
    core: Mutex<Option<Box<sphinx::ReplyOpener>>>,
}

impl ReplyOpener {
    fn new(core: sphinx::ReplyOpener) -> Self {
        Self { surb_id: core.surb_id(), core: Mutex::new(Some(Box::new(core))) }
    }
}

#[pymethods]
impl ReplyOpener {
    #[getter]
    fn surb_id(&self, py: Python<'_>) -> Py<PyBytes> {
        to_python(py, self.surb_id.as_bytes())
    }

    fn open(&self, py: Python<'_>, delta: AtMost<{ sphinx::Geometry::NATIVE.delta_len }>) -> PyResult<Py<PyBytes>> {
        let opener = lock(&self.core)
            .take()
            .ok_or_else(|| named(py, "InvalidSurb", "this opener was used: a SURB brings one answer".to_owned()))?;
        // One that is too long is refused for its length, as an empty one is.
        let mut delta = delta.0.unwrap_or_default();
        let payload = py.detach(|| opener.open(&mut delta)).or_raise(py)?;
        Ok(to_python(py, &payload))
    }

    fn __repr__(&self) -> String {
        format!("ReplyOpener(surb_id={})", self.surb_id)
    }
}
