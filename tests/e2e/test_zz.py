import socket, time
from lib import inline as il, stream, header
from lib.topology import *
ADDRESS=(SERVER,1883)
def test_a(env):
    count=4
    listening = env.server.listen(ADDRESS, backlog=0)
    running = il.daemon(env)
    d=env.start("dump", env.server.command("tcpdump","-ni","back","-l","-S","tcp"))
    time.sleep(0.5)
    clients = []
    for number in range(count):
        clients.append(env.lb.connect(ADDRESS))
        clients[-1].sendall(header.v2((CLIENTS[1], number + 1), (LB_FRONT, 1883))
                            + b"hello" + bytes([number]))
    time.sleep(2)
    listening.settimeout(20)
    t=time.time()
    for i in range(count):
        try:
            a,p=listening.accept(); print(p, time.time()-t); a.close()
        except Exception as e: print(e); break
    print({k:v for k,v in running.ctl_json("stats")["listeners"]["echo"].items() if v})
    print(env.server.run("nstat","-as").stdout)
    assert 0
