-- Shows records of TCPLS sessions that `tcpls decrypt -o FILE` has written (docs/captures.md):
--   tshark -X lua_script:tcpls.lua -r FILE -Y 'tcpls.stream_id == 4'
-- Frames are read from the end of a record, as its receiver does.

local tcpls = Proto("tcpls", "TCPLS record")

local content_types = { [21] = "Alert", [22] = "Handshake", [23] = "Frames" }
local names = {
    [0x00] = "Padding", [0x01] = "Ping", [0x02] = "Stream", [0x03] = "Stream", [0x04] = "ACK", [0x05] = "New Token",
    [0x06] = "Connection Reset", [0x07] = "New Address", [0x08] = "Remove Address", [0x09] = "Stream Change",
    [0x40] = "Session Parameters", [0x41] = "Max Data", [0x42] = "Max Stream Data", [0x43] = "Max Streams",
    [0x44] = "Reset Stream", [0x45] = "Stop Sending", [0x46] = "Close Session", [0x47] = "New Token",
    [0x48] = "Connection Status", [0x49] = "Connection Reset", [0x4a] = "TCP Option", [0x4b] = "Lane", [0x4c] = "Drain",
    [0x4d] = "TCP Option Request", [0x4e] = "TCP Option Answer",
}

local f = {
    session = ProtoField.uint32("tcpls.session", "Session"),
    tcp = ProtoField.uint32("tcpls.tcp", "TCP connection"),
    sender = ProtoField.uint8("tcpls.sender", "Sender", base.DEC, { [0] = "client", [1] = "server" }, 1),
    early = ProtoField.bool("tcpls.early_data", "Early data", 8, nil, 2),
    number = ProtoField.uint64("tcpls.record_number", "Record number"),
    generation = ProtoField.uint32("tcpls.key_generation", "Key generation"),
    content = ProtoField.uint8("tcpls.content_type", "Content type", base.DEC, content_types),
    handshake = ProtoField.uint8("tcpls.handshake_type", "Handshake type", base.DEC, { [4] = "New Session Ticket", [24] = "KeyUpdate" }),
    alert = ProtoField.uint8("tcpls.alert", "Alert"),
    frame = ProtoField.uint8("tcpls.frame_type", "Frame", base.HEX, names),
    stream_id = ProtoField.uint32("tcpls.stream_id", "Stream"),
    offset = ProtoField.uint64("tcpls.offset", "Offset"),
    length = ProtoField.uint32("tcpls.length", "Length"),
    fin = ProtoField.bool("tcpls.fin", "FIN"),
    data = ProtoField.bytes("tcpls.data", "Data"),
    acked_tcp = ProtoField.uint32("tcpls.acked_tcp", "Acknowledged TCP connection"),
    highest = ProtoField.uint64("tcpls.highest", "Highest record number"),
    about_tcp = ProtoField.uint32("tcpls.about_tcp", "About TCP connection"),
    sequence = ProtoField.uint32("tcpls.token_sequence", "Token sequence"),
    token = ProtoField.bytes("tcpls.token", "Token"),
    reason = ProtoField.uint8("tcpls.reason", "Reason"),
    status = ProtoField.uint8("tcpls.status", "Status", base.DEC, { [0] = "backup", [1] = "available" }),
    address_id = ProtoField.uint8("tcpls.address_id", "Address ID"),
    ipv4 = ProtoField.ipv4("tcpls.ipv4", "Address"),
    ipv6 = ProtoField.ipv6("tcpls.ipv6", "Address"),
    port = ProtoField.uint16("tcpls.port", "Port"),
    parameter = ProtoField.uint8("tcpls.parameter_id", "Parameter"),
    value = ProtoField.uint64("tcpls.value", "Value"),
    maximum = ProtoField.uint64("tcpls.maximum", "Maximum"),
    error = ProtoField.uint32("tcpls.error", "Error code"),
    final_size = ProtoField.uint64("tcpls.final_size", "Final size"),
    text = ProtoField.string("tcpls.text", "Text"),
    kind = ProtoField.uint8("tcpls.option_kind", "TCP option kind"),
    request = ProtoField.uint32("tcpls.request_id", "TCP option request"),
    outcome = ProtoField.uint8("tcpls.outcome", "Outcome", base.DEC, { [0] = "applied", [1] = "refused", [2] = "unknown", [3] = "lost" }),
    streams = ProtoField.uint32("tcpls.streams", "Streams"),
}
tcpls.fields = f

local malformed = ProtoExpert.new("tcpls.malformed", "Malformed frame", expert.group.MALFORMED, expert.severity.ERROR)
tcpls.experts = { malformed }

-- Fields of fixed size, from the type byte towards the front.
local fixed = {
    [0x04] = { { "acked_tcp", 4 }, { "highest", 8 } },
    [0x05] = { { "sequence", 1 }, { "token", 32 } },
    [0x06] = { { "about_tcp", 4 } },
    [0x08] = { { "address_id", 1 } },
    [0x09] = { { "offset", 8 }, { "stream_id", 4 } },
    [0x41] = { { "maximum", 8 } },
    [0x42] = { { "stream_id", 4 }, { "maximum", 8 } },
    [0x43] = { { "maximum", 4 } },
    [0x44] = { { "stream_id", 4 }, { "error", 4 }, { "final_size", 8 } },
    [0x45] = { { "stream_id", 4 }, { "error", 4 } },
    [0x47] = { { "sequence", 4 }, { "token", 32 } },
    [0x48] = { { "about_tcp", 4 }, { "status", 1 } },
    [0x49] = { { "about_tcp", 4 }, { "reason", 1 } },
    [0x4c] = { { "streams", 4 } },
    [0x4e] = { { "request", 4 }, { "outcome", 1 } },
}

-- Adds the frame that ends at `last` (exclusive); returns where it begins, or nil.
local function add_frame(tvb, first, last, tree)
    local ty = tvb(last - 1, 1):uint()
    local name = names[ty]
    local at = last - 1
    local items = {}
    local function take(field, len)
        if at - len < first then return nil end
        at = at - len
        if len > 0 then items[#items + 1] = { f[field], tvb(at, len) } end
        return len > 0 and len <= 4 and tvb(at, len):uint() or 0
    end
    local ok = name ~= nil
    if ty == 0x00 then
        while at > first and tvb(at - 1, 1):uint() == 0 do at = at - 1 end
    elseif ty == 0x02 or ty == 0x03 then
        local len
        ok = take("stream_id", 4) and take("offset", 8)
        len = ok and take("length", 2)
        ok = len and take("data", len)
    elseif ty == 0x07 then
        local version
        ok = take("address_id", 1)
        version = ok and at > first and tvb(at - 1, 1):uint()
        at = at - 1
        ok = ok and (version == 4 and take("ipv4", 4) or version == 6 and take("ipv6", 16)) and take("port", 2)
    elseif ty == 0x40 then
        ok = at > first
        local count = ok and tvb(at - 1, 1):uint() or 0
        at = at - 1
        for _ = 1, count do ok = ok and take("value", 8) and take("parameter", 1) end
    elseif ty == 0x46 or ty == 0x4a or ty == 0x4d then
        local len
        if ty == 0x4d then ok = take("request", 4) and take("about_tcp", 4) end
        ok = ok and take(ty == 0x46 and "error" or "kind", ty == 0x46 and 4 or 1)
        len = ok and take("length", 2)
        ok = len and take(ty == 0x46 and "text" or "data", len)
    else
        for _, field in ipairs(fixed[ty] or {}) do ok = ok and take(field[1], field[2]) end
    end
    if not ok then
        tree:add_proto_expert_info(malformed)
        return nil, name or string.format("unknown frame 0x%02x", ty)
    end
    local branch = tree:add(tcpls, tvb(at, last - at), name)
    branch:add(f.frame, tvb(last - 1, 1))
    if ty == 0x02 or ty == 0x03 then branch:add(f.fin, tvb(last - 1, 1), ty == 0x03) end
    for _, item in ipairs(items) do branch:add(item[1], item[2]) end
    return at, name
end

function tcpls.dissector(tvb, pinfo, tree)
    if tvb:len() < 23 or tvb(0, 1):uint() ~= 1 then return 0 end
    pinfo.cols.protocol = "TCPLS"
    local content, root = tvb(2, 1):uint(), tree:add(tcpls, tvb())
    root:add(f.sender, tvb(1, 1)); root:add(f.early, tvb(1, 1)); root:add(f.content, tvb(2, 1))
    root:add(f.session, tvb(3, 4)); root:add(f.tcp, tvb(7, 4))
    root:add(f.generation, tvb(11, 4)); root:add(f.number, tvb(15, 8))
    local shown = {}
    if content == 23 then
        local last = tvb:len()
        while last and last > 23 do last, shown[#shown + 1] = add_frame(tvb, 23, last, root) end
    elseif content == 21 and tvb:len() == 25 then
        root:add(f.alert, tvb(24, 1)); shown[1] = "Alert " .. tvb(24, 1):uint()
    elseif content == 22 and tvb:len() > 23 then
        root:add(f.handshake, tvb(23, 1)); shown[1] = "Handshake message"
    end
    pinfo.cols.info = string.format("tcp %d record %s: %s", tvb(7, 4):uint(), tostring(tvb(15, 8):uint64()), table.concat(shown, ", "))
    return tvb:len()
end
