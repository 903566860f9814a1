//! Each workload runs for a moment, and gives figures that can be true. How good they are is for a quiet machine.

use std::time::Duration;

use super::*;

fn moment() -> Window {
    Window { warm_up: Duration::from_millis(20), measured: Duration::from_millis(200) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_counted_where_it_arrives() {
    for size in [0, 32, 1 << 20] {
        let stream = stream(size, moment()).await.unwrap();
        assert!(stream.messages_per_s() > 0.0, "{size}: {stream:?}");
        assert_eq!(stream.bytes_per_s(), stream.messages_per_s() * size as f64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_too_large_says_why() {
    let refused = stream((1 << 20) + 1, moment()).await;
    assert!(matches!(refused, Err(PerfError::Send(capmux::SendError::TooLarge { .. }))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn round_trips_have_quantiles_in_order() {
    for times in [round_trips(32, moment()).await.unwrap(), tcp_round_trips(32, moment()).await.unwrap()] {
        assert!(times.count() > 0);
        let (median, most) = (times.quantile(0.5), times.quantile(0.99));
        assert!(Duration::ZERO < median && median <= most, "{median:?} {most:?}");
        let together = median.mul_f64(times.count() as f64);
        assert!(together < 2 * moment().measured, "half of them took at least {median:?}: {}", times.count());
        assert!(times.quantile(1.0).mul_f64(times.count() as f64) > moment().measured / 2, "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_go_on_for_as_long_as_asked() {
    let rate = handshakes(4, moment()).await.unwrap();
    assert!(rate.per_s() > 1.0, "{rate:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_has_two_ends_for_each_pair_of_nodes() {
    let mut mesh = Mesh::start(5).await.unwrap();
    assert_eq!(mesh.ends(), 0);
    mesh.connect(2).await.unwrap();
    assert_eq!(mesh.ends(), 2);
    mesh.connect(5).await.unwrap();
    assert_eq!(mesh.ends(), 20);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_idle_peers_is_that_of_the_window() {
    let idle = idle_cpu(4, moment()).await.unwrap();
    assert_eq!(idle.ends, 12);
    assert!(idle.wall >= moment().measured, "{idle:?}");
    // The other tests are this process too, so that there is no telling how much it should be.
    let percent = 100.0 * idle.cpu.as_secs_f64() / idle.wall.as_secs_f64();
    assert!((idle.percent_for_1000() * 12.0 / 1000.0 - percent).abs() < 1e-6, "{idle:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_first_connection_is_not_part_of_the_memory() {
    assert_eq!(idle_memory(4).await.unwrap().ends, 10);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_have_no_more_than_the_first_connection() {
    let too_few = idle_memory(2).await;
    assert!(matches!(too_few, Err(PerfError::Missing { have: 2, needed: 3 })), "{too_few:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_goes_to_every_drain() {
    let broadcaster = Broadcaster::start(3).await.unwrap();
    let node = broadcaster.enode();
    let drains = tokio::spawn(async move { drain(&node, 3).await });
    let rate = broadcaster.run(1024, moment()).await.unwrap();
    assert!(rate.bytes_per_s() > 0.0, "{rate:?}");
    drains.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_reaches_all_its_peers() {
    let hub = Hub::start(3).await.unwrap();
    assert_eq!((hub.peers(), hub.received()), (3, 0));
    for peer in 0..6 {
        hub.send(peer, vec![0; 8].into()).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(20), async {
        while hub.received() < 6 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("every message arrives");
}

#[test]
fn a_larger_frame_takes_longer() {
    let times = |size| codec(size, Duration::from_millis(50)).unwrap();
    let (small, large) = (times(0), times(64 << 10));
    assert!(Duration::ZERO < small.seal && small.seal < large.seal, "{small:?} {large:?}");
    assert!(Duration::ZERO < small.open && small.open < large.open, "{small:?} {large:?}");
}

#[test]
fn the_warm_up_is_a_second_at_most() {
    assert_eq!(Window::of(Duration::from_secs(30)).warm_up, Duration::from_secs(1));
    assert_eq!(Window::of(Duration::from_millis(300)).warm_up, Duration::from_millis(100));
}
